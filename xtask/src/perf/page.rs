//! A metrics page of a process.

use testkit::http::Client;

/// The text of a metrics page.
#[derive(Debug, Clone)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    /// Fetches `GET /metrics`.
    pub(crate) fn fetch(address: &str) -> Self {
        Self(Client::connect(address).get("/metrics").text().to_owned())
    }

    /// The sum of all samples of a metric family; 0 if there are none.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.0
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// A quantile of the observations a histogram has gained between two pages, all series together: the upper bound of the
    /// bucket that contains it; infinite above the last bound; NaN without an observation.
    pub(crate) fn quantile_between(before: &Self, after: &Self, name: &str, quantile: f64) -> f64 {
        let (before, after) = (before.buckets(name), after.buckets(name));
        let rises: Vec<(f64, f64)> = after
            .iter()
            .map(|&(bound, count)| {
                let earlier = before.iter().find(|(other, _)| other.total_cmp(&bound).is_eq());
                (bound, count - earlier.map_or(0.0, |(_, count)| *count))
            })
            .collect();
        let all = rises.last().map_or(0.0, |(_, count)| *count);
        rises
            .iter()
            .find(|(_, count)| all > 0.0 && *count >= all * quantile)
            .map_or(f64::NAN, |(bound, _)| *bound)
    }

    /// Cumulative counts by upper bound, ascending.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for rest in self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix("_bucket{")) {
            let Some((labels, count)) = rest.rsplit_once(' ') else { continue };
            let bound = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"'));
            // Rust parses `+Inf`, the form Prometheus uses.
            let bound = bound.and_then(|(bound, _)| bound.parse().ok());
            let (Some(bound), Ok(count)) = (bound, count.parse::<f64>()) else { continue };
            match buckets.iter_mut().find(|(other, _)| other.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
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
    fn quantile_covers_only_observations_between_the_pages() {
        let page = |a: u32, b: u32| {
            Page(format!(
                "h_bucket{{le=\"0.1\"}} {a}\nh_bucket{{le=\"0.5\"}} {b}\nh_bucket{{le=\"+Inf\"}} {b}\nh_sum 3\n"
            ))
        };
        let quantile = |quantile| Page::quantile_between(&page(50, 50), &page(148, 150), "h", quantile);
        assert!((quantile(0.98) - 0.1).abs() < 1e-9);
        assert!((quantile(0.99) - 0.5).abs() < 1e-9);
        assert!(Page::quantile_between(&page(50, 50), &page(50, 50), "h", 0.99).is_nan());
    }

    #[test]
    fn sum_excludes_metrics_with_the_same_prefix() {
        let page = Page("# TYPE a counter\na 3\na_total 9\na{x=\"1 2\"} 4\n".to_owned());
        assert!((page.sum("a") - 7.0).abs() < 1e-9);
    }
}
