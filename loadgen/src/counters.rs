//! The target's own counters beside what was seen of it: they must add up by themselves, and rise as the
//! answers and the ends say.
//!
//! A counter counts the orders of every generator. So a shard only keeps what it read, and the whole is judged
//! by [`crate::merge`], from the earliest look before to the latest look after.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metrics::MetricsPage;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::report::{Check, CheckKind};
use crate::verdict::check;
use crate::word::Word;

/// Checks of the gateway's counters: the identity, and the comparison.
pub(crate) const OF_GATEWAY: [&str; 2] = ["gateway_metrics_identity", "gateway_counts_agree"];
/// Likewise of the processor's.
pub(crate) const OF_PROCESSOR: [&str; 2] = ["processor_metrics_identity", "processor_counts_agree"];

const RECEIVED: &str = "gateway_orders_received_total";
/// Parts of [`RECEIVED`] beside the outcomes they count.
const GATEWAY_PARTS: [(&[&str], &[Outcome]); 6] = [
    (&["gateway_orders_successful_total"], &[Outcome::Accepted]),
    (&["gateway_orders_validation_failed_total"], &[Outcome::Invalid]),
    (&["gateway_orders_idempotency_rejected_total"], &[Outcome::Duplicate, Outcome::Mismatch]),
    (&["gateway_rate_limited_total"], &[Outcome::Limited]),
    (&["gateway_sold_out_total"], &[Outcome::SoldOut]),
    (&["gateway_orders_failed_total", "gateway_shed_total"], &[Outcome::Failed, Outcome::Unavailable]),
];

const PROCESSED: &str = "processor_orders_processed_total";
/// Ours only: other processors do not tell redeliveries apart.
const REDELIVERED: &str = "processor_orders_redelivered_total";
/// Parts of [`PROCESSED`] beside the ends they count.
const PROCESSOR_PARTS: [(&str, &[&str]); 3] = [
    ("processor_orders_processed_success_total", &["COMPLETED"]),
    ("processor_orders_sold_out_total", &["FAILED_SOLD_OUT"]),
    ("processor_orders_processed_failed_total", &["FAILED_PAYMENT", "FAILED_UNKNOWN_ITEM"]),
];

/// Whose counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Takes the orders.
    Gateway,
    /// Ends them.
    Processor,
}

/// What one page of counters said before the run and after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Whose.
    pub service: Service,
    /// Where the page was read.
    pub address: String,
    /// When, before the first arrival; milliseconds since 1970.
    pub before_unix_ms: u64,
    /// When, after the last end.
    pub after_unix_ms: u64,
    /// By name of the family; one that is not on the page is not in here.
    pub before: BTreeMap<String, f64>,
    /// Likewise.
    pub after: BTreeMap<String, f64>,
}

impl Counted {
    pub(crate) fn of(
        service: Service,
        address: String,
        unix_ms: (u64, u64),
        (before, after): &(MetricsPage, MetricsPage),
    ) -> Self {
        let pick = |page: &MetricsPage| {
            families(service).filter_map(|name| Some((name.to_owned(), page.sum(name)?))).collect()
        };
        let (before_unix_ms, after_unix_ms) = unix_ms;
        Self { service, address, before_unix_ms, after_unix_ms, before: pick(before), after: pick(after) }
    }

    /// NaN, which holds no check, when it is not there.
    fn value(&self, name: &str) -> f64 {
        self.after.get(name).copied().unwrap_or(f64::NAN)
    }

    /// A counter that fell was reset and counts from zero, as Prometheus has it.
    fn rise(&self, name: &str) -> f64 {
        let (before, after) = (self.before.get(name).copied().unwrap_or(0.0), self.value(name));
        if after < before { after } else { after - before }
    }
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

/// The pages of all generators of a run: each page from the earliest look before to the latest look after.
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
        self.0.iter().map(|page| page.value(name)).sum()
    }

    fn rise(&self, name: &str) -> f64 {
        self.0.iter().map(|page| page.rise(name)).sum()
    }
}

/// The checks of the gateway's counters; none without its page.
pub(crate) fn gateway(counted: &[Counted], record: &Record) -> Vec<Check> {
    let Some(pages) = Pages::of(Service::Gateway, counted) else { return Vec::new() };
    let kind = CheckKind::Ledger;
    let received = pages.value(RECEIVED);
    let parts: f64 =
        GATEWAY_PARTS.iter().flat_map(|(counters, _)| counters.iter()).map(|name| pages.value(name)).sum();
    let detail = format!("orders received {received}, its parts {parts}");
    let identity = check(OF_GATEWAY[0], kind, received - parts, "=", 0.0, detail);

    // A request that timed out or was reset may have been counted as anything; nothing else may differ.
    let slack = record.count(Outcome::Timeout) + record.count(Outcome::Reset) + record.count(Outcome::Other);
    let (mut above, mut below, mut missing) = (0.0, 0.0, false);
    let mut details = Vec::new();
    for (counters, outcomes) in GATEWAY_PARTS {
        let counted: f64 = counters.iter().map(|name| pages.rise(name)).sum();
        let answered: u64 = outcomes.iter().map(|&outcome| record.count(outcome)).sum();
        let gap = counted - answered as f64;
        missing |= gap.is_nan();
        // Of a number and NaN these take the number.
        above += gap.max(0.0);
        below += (-gap).max(0.0);
        if gap.is_nan() || gap.abs() > 0.5 {
            details.push(format!("{} rose by {counted}, answers seen {answered}", counters.join(" + ")));
        }
    }
    let wrong = if missing { f64::NAN } else { below + (above - slack as f64).max(0.0) };
    vec![identity, agreement(OF_GATEWAY[1], wrong, &details, "answers")]
}

/// The checks of the processor's counters; none without its page. Without an audit nobody knows the ends.
pub(crate) fn processor(counted: &[Counted], ends: Option<&BTreeMap<Word, u64>>) -> Vec<Check> {
    let Some(pages) = Pages::of(Service::Processor, counted) else { return Vec::new() };
    let processed = pages.value(PROCESSED);
    let redelivered = pages.value(REDELIVERED);
    let parts = PROCESSOR_PARTS.iter().map(|(name, _)| pages.value(name)).sum::<f64>()
        + if redelivered.is_nan() { 0.0 } else { redelivered };
    let detail = format!("orders processed {processed}, its parts {parts}");
    let mut checks = vec![check(OF_PROCESSOR[0], CheckKind::Ledger, processed - parts, "=", 0.0, detail)];
    if let Some(ends) = ends {
        let mut wrong = 0.0;
        let mut details = Vec::new();
        for (counter, words) in PROCESSOR_PARTS {
            let seen: u64 = words.iter().filter_map(|word| ends.get(word)).sum();
            let rose = pages.rise(counter);
            let gap = (rose - seen as f64).abs();
            wrong += gap;
            if gap.is_nan() || gap > 0.5 {
                details.push(format!("{counter} rose by {rose}, ends seen {seen}"));
            }
        }
        checks.push(agreement(OF_PROCESSOR[1], wrong, &details, "ends"));
    }
    checks
}

fn agreement(name: &str, wrong: f64, details: &[String], seen: &str) -> Check {
    let detail =
        if details.is_empty() { format!("counters rose as the {seen} say") } else { details.join("; ") };
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
    fn the_earliest_and_the_latest_look_at_each_page_count() {
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
        assert!(gateway(&whole, &record).iter().all(|check| check.state == crate::report::CheckState::Pass));
        record.counts[Outcome::Accepted as usize] = 41;
        let states: Vec<_> = gateway(&whole, &record).iter().map(|check| check.state).collect();
        assert_eq!(states, [crate::report::CheckState::Pass, crate::report::CheckState::Fail]);
    }

    #[test]
    fn a_counter_that_is_not_there_holds_no_check() {
        let mut page = page("a", (1, 2), (0.0, 0.0));
        page.after.remove("gateway_sold_out_total");
        let checks = gateway(&[page], &Record::new(1));
        assert!(checks.iter().all(|check| check.state == crate::report::CheckState::Fail), "{checks:?}");
    }
}
