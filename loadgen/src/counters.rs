//! Checks of the target's own counters: they must add up, and must have increased by the numbers of responses
//! and final statuses that were seen.
//!
//! A counter counts the orders of every generator. So a shard only records its readings, and [`crate::merge`]
//! judges them, from the earliest reading before the run to the latest reading after it.

use std::collections::BTreeMap;

use report::check::check;
use report::{Check, CheckKind, Counted, Outcome, Record, Service, Word};

use crate::metrics::MetricsPage;

/// Checks of the gateway's counters: that they add up, and that they match the responses.
pub(crate) const OF_GATEWAY: [&str; 2] = ["gateway_metrics_identity", "gateway_counts_agree"];
/// The same for the processor.
pub(crate) const OF_PROCESSOR: [&str; 2] = ["processor_metrics_identity", "processor_counts_agree"];

const RECEIVED: &str = "gateway_orders_received_total";
/// Counters that add up to [`RECEIVED`], with the outcomes they count.
const GATEWAY_PARTS: [(&[&str], &[Outcome]); 6] = [
    (&["gateway_orders_successful_total"], &[Outcome::Accepted]),
    (&["gateway_orders_validation_failed_total"], &[Outcome::Invalid]),
    (&["gateway_orders_idempotency_rejected_total"], &[Outcome::Duplicate, Outcome::Mismatch]),
    (&["gateway_rate_limited_total"], &[Outcome::Limited]),
    (&["gateway_sold_out_total"], &[Outcome::SoldOut]),
    (&["gateway_orders_failed_total", "gateway_shed_total"], &[Outcome::Failed, Outcome::Unavailable]),
];

const PROCESSED: &str = "processor_orders_processed_total";
/// Our processor only: others do not count redelivered orders separately.
const REDELIVERED: &str = "processor_orders_redelivered_total";
/// Counters that add up to [`PROCESSED`], with the final statuses they count.
const PROCESSOR_PARTS: [(&str, &[&str]); 3] = [
    ("processor_orders_processed_success_total", &["COMPLETED"]),
    ("processor_orders_sold_out_total", &["FAILED_SOLD_OUT"]),
    ("processor_orders_processed_failed_total", &["FAILED_PAYMENT", "FAILED_UNKNOWN_ITEM"]),
];

/// The counters of a service's metrics page before and after the run.
pub(crate) fn counted(
    service: Service,
    address: String,
    unix_ms: (u64, u64),
    (before, after): &(MetricsPage, MetricsPage),
) -> Counted {
    let pick = |page: &MetricsPage| {
        families(service).filter_map(|name| Some((name.to_owned(), page.sum(name)?))).collect()
    };
    let (before_unix_ms, after_unix_ms) = unix_ms;
    Counted { service, address, before_unix_ms, after_unix_ms, before: pick(before), after: pick(after) }
}

/// NaN, which fails every check, if the counter is missing.
fn value(counted: &Counted, name: &str) -> f64 {
    counted.after.get(name).copied().unwrap_or(f64::NAN)
}

/// A counter that decreased was reset and counts from zero, as in Prometheus.
fn rise(counted: &Counted, name: &str) -> f64 {
    let (before, after) = (counted.before.get(name).copied().unwrap_or(0.0), value(counted, name));
    if after < before { after } else { after - before }
}

fn families(service: Service) -> Box<dyn Iterator<Item = &'static str>> {
    match service {
        Service::Gateway => {
            Box::new(GATEWAY_PARTS.iter().flat_map(|(names, _)| names.iter().copied()).chain([RECEIVED]))
        }
        Service::Processor => {
            Box::new(PROCESSOR_PARTS.iter().map(|&(name, _)| name).chain([PROCESSED, REDELIVERED]))
        }
    }
}

/// Merges the pages of all generators: each page from its earliest reading before to its latest reading
/// after.
pub(crate) fn joined<'a>(parts: impl Iterator<Item = &'a Counted>) -> Vec<Counted> {
    let mut all: Vec<Counted> = Vec::new();
    for part in parts {
        let same = |other: &&mut Counted| other.service == part.service && other.address == part.address;
        let Some(whole) = all.iter_mut().find(same) else {
            all.push(part.clone());
            continue;
        };
        if part.before_unix_ms < whole.before_unix_ms {
            whole.before_unix_ms = part.before_unix_ms;
            whole.before.clone_from(&part.before);
        }
        if part.after_unix_ms > whole.after_unix_ms {
            whole.after_unix_ms = part.after_unix_ms;
            whole.after.clone_from(&part.after);
        }
    }
    all
}

/// Sums over the pages of one service.
struct Pages<'a>(Vec<&'a Counted>);

impl<'a> Pages<'a> {
    fn of(service: Service, counted: &'a [Counted]) -> Option<Self> {
        let pages: Vec<_> = counted.iter().filter(|page| page.service == service).collect();
        (!pages.is_empty()).then_some(Self(pages))
    }

    fn value(&self, name: &str) -> f64 {
        self.0.iter().map(|page| value(page, name)).sum()
    }

    fn rise(&self, name: &str) -> f64 {
        self.0.iter().map(|page| rise(page, name)).sum()
    }
}

/// The checks of the gateway's counters; none without its metrics page.
pub(crate) fn gateway(counted: &[Counted], record: &Record) -> Vec<Check> {
    let Some(pages) = Pages::of(Service::Gateway, counted) else { return Vec::new() };
    let kind = CheckKind::Ledger;
    let received = pages.value(RECEIVED);
    let parts: f64 =
        GATEWAY_PARTS.iter().flat_map(|(counters, _)| counters.iter()).map(|name| pages.value(name)).sum();
    let detail = format!("orders received {received}, sum of the counters per result {parts}");
    let identity = check(OF_GATEWAY[0], kind, received - parts, "=", 0.0, detail);

    // A request that timed out or was reset may be counted under any result; nothing else may differ.
    let slack = record.count(Outcome::Timeout) + record.count(Outcome::Reset) + record.count(Outcome::Other);
    let (mut above, mut below, mut missing) = (0.0, 0.0, false);
    let mut details = Vec::new();
    for (counters, outcomes) in GATEWAY_PARTS {
        let counted: f64 = counters.iter().map(|name| pages.rise(name)).sum();
        let answered: u64 = outcomes.iter().map(|&outcome| record.count(outcome)).sum();
        let gap = counted - answered as f64;
        missing |= gap.is_nan();
        // `max` of a number and NaN is the number.
        above += gap.max(0.0);
        below += (-gap).max(0.0);
        if gap.is_nan() || gap.abs() > 0.5 {
            details
                .push(format!("{} increased by {counted}, responses seen {answered}", counters.join(" + ")));
        }
    }
    let wrong = if missing { f64::NAN } else { below + (above - slack as f64).max(0.0) };
    vec![identity, agreement(OF_GATEWAY[1], wrong, &details, "responses")]
}

/// The checks of the processor's counters; none without its metrics page. Final statuses are known only after
/// an audit.
pub(crate) fn processor(counted: &[Counted], final_statuses: Option<&BTreeMap<Word, u64>>) -> Vec<Check> {
    let Some(pages) = Pages::of(Service::Processor, counted) else { return Vec::new() };
    let processed = pages.value(PROCESSED);
    let redelivered = pages.value(REDELIVERED);
    let parts = PROCESSOR_PARTS.iter().map(|(name, _)| pages.value(name)).sum::<f64>()
        + if redelivered.is_nan() { 0.0 } else { redelivered };
    let detail = format!("orders processed {processed}, sum of the counters per result {parts}");
    let mut checks = vec![check(OF_PROCESSOR[0], CheckKind::Ledger, processed - parts, "=", 0.0, detail)];
    if let Some(final_statuses) = final_statuses {
        let mut wrong = 0.0;
        let mut details = Vec::new();
        for (counter, words) in PROCESSOR_PARTS {
            let seen: u64 = words.iter().filter_map(|word| final_statuses.get(word)).sum();
            let rose = pages.rise(counter);
            let gap = (rose - seen as f64).abs();
            wrong += gap;
            if gap.is_nan() || gap > 0.5 {
                details.push(format!("{counter} increased by {rose}, orders with this status {seen}"));
            }
        }
        checks.push(agreement(OF_PROCESSOR[1], wrong, &details, "final statuses"));
    }
    checks
}

fn agreement(name: &str, wrong: f64, details: &[String], seen: &str) -> Check {
    let detail =
        if details.is_empty() { format!("the counters match the {seen}") } else { details.join("; ") };
    check(name, CheckKind::Ledger, wrong, "=", 0.0, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(address: &str, unix_ms: (u64, u64), successful: (f64, f64)) -> Counted {
        let counters = |successful: f64| {
            let of = |name: &str| match name {
                RECEIVED | "gateway_orders_successful_total" => successful,
                _ => 0.0,
            };
            families(Service::Gateway).map(|name| (name.to_owned(), of(name))).collect()
        };
        Counted {
            service: Service::Gateway,
            address: address.to_owned(),
            before_unix_ms: unix_ms.0,
            after_unix_ms: unix_ms.1,
            before: counters(successful.0),
            after: counters(successful.1),
        }
    }

    #[test]
    fn each_page_counts_from_its_earliest_to_its_latest_reading() {
        let parts = [
            page("a", (10, 90), (5.0, 30.0)),
            page("a", (12, 95), (7.0, 35.0)),
            page("b", (11, 80), (100.0, 110.0)),
        ];
        let whole = joined(parts.iter());
        let pages = Pages::of(Service::Gateway, &whole).expect("two pages");
        assert!((pages.rise("gateway_orders_successful_total") - 40.0).abs() < 1e-9);
        let mut record = Record::new(1);
        record.counts[Outcome::Accepted as usize] = 40;
        assert!(gateway(&whole, &record).iter().all(|check| check.state == report::CheckState::Pass));
        record.counts[Outcome::Accepted as usize] = 41;
        let states: Vec<_> = gateway(&whole, &record).iter().map(|check| check.state).collect();
        assert_eq!(states, [report::CheckState::Pass, report::CheckState::Fail]);
    }

    #[test]
    fn a_missing_counter_fails_the_checks() {
        let mut page = page("a", (1, 2), (0.0, 0.0));
        page.after.remove("gateway_sold_out_total");
        let checks = gateway(&[page], &Record::new(1));
        assert!(checks.iter().all(|check| check.state == report::CheckState::Fail), "{checks:?}");
    }
}
