//! A page of metrics, fetched from a process of this run.

use testkit::http::Client;

/// The text of a page.
#[derive(Debug, Clone)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    /// `GET /metrics`.
    pub(crate) fn fetch(address: &str) -> Self {
        Self(Client::connect(address).get("/metrics").text().to_owned())
    }

    /// The sum of all samples of a family; 0 when there is none.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.0
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}

/// Left and right side of the contract's identity of the gateway's counters ("Metrics beyond the runbook's").
pub(crate) fn identity(page: &Page) -> (f64, f64) {
    let parts = ["successful", "failed", "validation_failed", "idempotency_rejected"]
        .map(|part| format!("gateway_orders_{part}_total"));
    let others = ["rate_limited", "sold_out", "shed"].map(|part| format!("gateway_{part}_total"));
    let sum = parts.iter().chain(&others).map(|name| page.sum(name)).sum();
    (page.sum("gateway_orders_received_total"), sum)
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_family_is_summed_and_its_namesakes_are_not() {
        let page = Page("# TYPE a counter\na 3\na_total 9\na{x=\"1 2\"} 4\n".to_owned());
        assert!((page.sum("a") - 7.0).abs() < 1e-9);
    }
}
