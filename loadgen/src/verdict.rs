//! All checks of a run: name, value and limit.

use std::fmt::Write as _;

use audit::ledger::Rule;
use audit::orders::{Audited, NO_OVERSELL};
use report::check::{check, not_judged};
use report::{Check, CheckKind, CheckState, Counted, ItemReport, LedgerReport, Outcome, Record, quantile_ms};

use crate::counters;
use crate::end_to_end::EndToEndLatencies;
use crate::faults::InjectedFault;
use crate::metrics::MetricsPage;
use crate::plan::Plan;

/// A metrics page before and after the run, or why it could not be read.
pub(crate) type Pages = Result<(MetricsPage, MetricsPage), String>;

/// Inputs of the checks.
pub(crate) struct CheckInputs<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) record: &'a Record,
    pub(crate) offered_rate: f64,
    /// `None` if the kernel does not report CPU times.
    pub(crate) busy_share: Option<f64>,
    /// `None` without an audit.
    pub(crate) audited: Option<&'a Audited>,
    /// `None` if its metrics were not requested.
    pub(crate) gateway: Option<&'a Pages>,
    pub(crate) processor: Option<&'a Pages>,
    /// The counters of these pages.
    pub(crate) counted: &'a [Counted],
    /// `None` if no orders were followed.
    pub(crate) end_to_end: Option<&'a EndToEndLatencies>,
    pub(crate) faults: &'a [InjectedFault],
}

/// All checks, in the order of the report.
pub(crate) fn checks(inputs: &CheckInputs<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    validity(inputs, &mut checks);
    thresholds(inputs, &mut checks);
    if let Some(audited) = inputs.audited {
        orders(inputs, audited, &mut checks);
        checks.extend(units(&audited.ledger, inputs.plan.amount_max));
    }
    if let Some(pages) = inputs.gateway {
        gateway(inputs, pages, &mut checks);
    }
    if let Some(pages) = inputs.processor {
        processor(inputs, pages, &mut checks);
    }
    checks
}

fn validity(inputs: &CheckInputs<'_>, checks: &mut Vec<Check>) {
    let limits = &inputs.plan.thresholds;
    let kind = CheckKind::Validity;
    if !inputs.plan.faults.is_empty() {
        let errors: Vec<String> = inputs
            .faults
            .iter()
            .filter_map(|fault| Some(format!("{}: {}", fault.name, fault.error.as_ref()?)))
            .collect();
        let missed = inputs.plan.faults.len() - inputs.faults.len();
        let mut detail = errors.join("; ");
        if detail.is_empty() {
            "fault scripts that failed or were not run".clone_into(&mut detail);
        }
        checks.push(check("faults_were_made", kind, (errors.len() + missed) as f64, "=", 0.0, detail));
    }
    // A closed loop is as busy as possible by design, and has no intended times to be late for.
    if inputs.plan.closed {
        return;
    }
    if let Some(limit_ms) = limits.lateness_p99_ms_max {
        let p99_ms = quantile_ms(&inputs.record.lateness, 0.99);
        let detail = "p99 of the generator's own lateness in ms, without waits for a connection";
        checks.push(check("generator_lateness_ms", kind, p99_ms, "<=", limit_ms, detail));
    }
    if let Some(limit) = limits.busy_share_max {
        let name = "generator_busy_share";
        checks.push(match inputs.busy_share {
            Some(share) => check(
                name,
                kind,
                share,
                "<=",
                limit,
                "share of the run during which the generator's busiest core ran",
            ),
            None => not_judged(name, kind, "<=", limit, "the kernel does not report CPU times"),
        });
    }
}

fn thresholds(inputs: &CheckInputs<'_>, checks: &mut Vec<Check>) {
    let CheckInputs { plan, record, .. } = inputs;
    let limits = &plan.thresholds;
    let kind = CheckKind::Threshold;
    if let Some(limit_ms) = limits.p99_ms_max {
        checks.push(accepted_p99(record, limit_ms));
    }
    if let Some(limit) = limits.offered_share_min.filter(|_| !plan.closed) {
        checks.push(offered_share(inputs.offered_rate, plan.own_rate(), limit));
    }
    checks.push(buyers_failed_share(record, limits.failed_share_max));
    let detail = "responses that are wrong for their order: 400 for a valid order, another status than 400 for an \
                  invalid one, 422 for unchanged contents, or a status outside the API contract";
    checks.push(check("no_unexpected_answers", kind, record.unexpected as f64, "=", 0.0, detail));
    if let Some(limit_ms) = limits.end_to_end_p99_ms_max {
        let name = "end_to_end_p99_ms";
        checks.push(match inputs.end_to_end.filter(|latencies| !latencies.histogram.is_empty()) {
            Some(latencies) => {
                let p99_ms = quantile_ms(&latencies.histogram, 0.99);
                let detail = "p99 from the intended time to the final status, ms";
                check(name, kind, p99_ms, "<=", limit_ms, detail)
            }
            None => not_judged(name, kind, "<=", limit_ms, "no order was followed to its final status"),
        });
    }
}

pub(crate) fn accepted_p99(record: &Record, limit_ms: f64) -> Check {
    let (name, kind) = ("accepted_p99_ms", CheckKind::Threshold);
    match &record.latencies[Outcome::Accepted as usize] {
        Some(latencies) => {
            let p99_ms = quantile_ms(&latencies.intended, 0.99);
            check(name, kind, p99_ms, "<=", limit_ms, "p99 of the 202 responses from the intended time, ms")
        }
        None => not_judged(name, kind, "<=", limit_ms, "there was no 202 response"),
    }
}

pub(crate) fn offered_share(offered_rate: f64, asked_rate: f64, limit: f64) -> Check {
    let detail = format!("offered {offered_rate:.0}/s of {asked_rate:.0}/s");
    check("offered_share", CheckKind::Threshold, offered_rate / asked_rate, ">=", limit, detail)
}

pub(crate) fn buyers_failed_share(record: &Record, limit: f64) -> Check {
    let all: u64 = record.counts.iter().sum();
    let failed: u64 =
        Outcome::ALL.into_iter().filter(|o| o.is_failure()).map(|outcome| record.count(outcome)).sum();
    let share = if all == 0 { 0.0 } else { failed as f64 / all as f64 };
    let detail = format!("{failed} of {all} requests: 500, 503, other status, timeout, reset or unsent");
    check("buyers_failed_share", CheckKind::Threshold, share, "<=", limit, detail)
}

fn orders(inputs: &CheckInputs<'_>, audited: &Audited, checks: &mut Vec<Check>) {
    let kind = CheckKind::Ledger;
    let own = inputs.plan.shard.own(inputs.plan.buyers) as f64;
    let detail = match &audited.error {
        None => format!("orders looked up in {}", audited.ledger.source),
        Some(reason) => format!("the audit stopped early: {reason}"),
    };
    checks.push(check("audit_complete", kind, audited.orders_checked as f64, "=", own, detail));
    let of_topics: &[Rule] = match &audited.topics {
        None => &[],
        Some(Ok(())) => &Rule::OF_TOPICS,
        Some(Err(reason)) => {
            let why = format!("the topics were not read: {reason}");
            let unread = |rule: &Rule| not_judged(rule.name(), kind, "=", 0.0, &*why);
            checks.extend(Rule::OF_TOPICS.iter().map(unread));
            &[]
        }
    };
    for rule in Rule::ALL.into_iter().chain(of_topics.iter().copied()) {
        let violation = audited.ledger.violations.iter().find(|violation| violation.rule == rule.name());
        let count = violation.map_or(0, |violation| violation.count);
        let mut detail = rule.sentence().to_owned();
        if let Some(violation) = violation {
            detail.push_str(": ");
            detail.push_str(&some_ids(&violation.request_ids, count));
        }
        checks.push(check(rule.name(), kind, count as f64, "=", 0.0, detail));
    }
}

/// The first ids, and the number of further ones.
fn some_ids(ids: &[String], count: u64) -> String {
    const SHOWN: usize = 3;
    let mut text = ids.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let shown = ids.len().min(SHOWN) as u64;
    if count > shown {
        // Writing to a string cannot fail.
        let _ = write!(text, " and {} more", count - shown);
    }
    text
}

/// The checks of units, from the ledger of all orders of a run.
pub(crate) fn units(ledger: &LedgerReport, amount_max: u32) -> Vec<Check> {
    let mut checks = Vec::new();
    let kind = CheckKind::Ledger;
    let LedgerReport { items, source, violations, .. } = ledger;
    let names = [NO_OVERSELL, "units_add_up", "stock_never_negative", "no_undersell"];
    if items.is_empty() || items.iter().any(|item| item.left.is_none()) {
        let why = if items.is_empty() {
            format!("the audit source {source} has no stock")
        } else {
            "the stock of an item is unknown after the run".to_owned()
        };
        for name in names {
            // An unknown level at the end of a sale whose stock was known at the start is a failure, not
            // missing information.
            checks.push(if items.is_empty() {
                not_judged(name, kind, "=", 0.0, &*why)
            } else {
                check(name, kind, 1.0, "=", 0.0, &*why)
            });
        }
        return checks;
    }
    let oversold: i64 = items.iter().map(|item| (item.sold as i64 - item.on_sale()).max(0)).sum();
    let mut detail = listed(items, |item| format!("{} sold of {}", item.sold, item.on_sale()));
    if let Some(violation) = violations.iter().find(|violation| violation.rule == NO_OVERSELL) {
        detail.push_str("; sold beyond the stock: ");
        detail.push_str(&some_ids(&violation.request_ids, violation.count));
    }
    checks.push(check(NO_OVERSELL, kind, oversold as f64, "<=", 0.0, detail));

    let gap = |item: &ItemReport| item.on_sale() - item.left.unwrap_or(0) - item.sold as i64;
    let gaps: i64 = items.iter().map(|item| gap(item).abs()).sum();
    let mut detail = listed(items, |item| {
        let restocked =
            if item.restocked == 0 { String::new() } else { format!(" + {} restocked", item.restocked) };
        let (left, gap) = (item.left.unwrap_or(0), gap(item));
        format!("{} seeded{restocked} - {left} left - {} sold = {gap}", item.seeded, item.sold)
    });
    if gaps != 0 {
        detail.push_str("; a plain SET of the key is not in the ledger: use flash-sale stock add to restock");
    }
    checks.push(check("units_add_up", kind, gaps as f64, "=", 0.0, detail));

    let least = items.iter().filter_map(|item| item.least_seen.into_iter().chain(item.left).min()).min();
    let LedgerReport { stock_looks, stock_unknown, .. } = ledger;
    let detail = format!("lowest level of {stock_looks} samples; {stock_unknown} levels were unknown");
    checks.push(check("stock_never_negative", kind, least.unwrap_or(0) as f64, ">=", 0.0, detail));

    checks.push(no_undersell(amount_max, items));
    checks
}

/// A sold-out response is correct although units are left only if those units were refunded or restocked
/// later, or are too few for the refused order.
fn no_undersell(amount_max: u32, items: &[ItemReport]) -> Check {
    let came_back = |item: &ItemReport| item.refunded as i64 + item.restocked.max(0);
    let allowed = |item: &ItemReport| came_back(item) + i64::from(amount_max) - 1;
    let worst = items
        .iter()
        .filter(|item| item.sold_out_refusals > 0)
        .max_by_key(|item| item.left.unwrap_or(0) - allowed(item));
    let name = "no_undersell";
    match worst {
        None => check(name, CheckKind::Ledger, 0.0, "<=", 0.0, "no order was refused as sold out"),
        Some(item) => {
            let left = item.left.unwrap_or(0);
            let detail = format!(
                "item {}: {left} units left after {} sold-out refusals, {} units refunded or restocked meanwhile",
                item.item_id,
                item.sold_out_refusals,
                came_back(item)
            );
            check(name, CheckKind::Ledger, left as f64, "<=", allowed(item) as f64, detail)
        }
    }
}

/// The first items as text.
fn listed(items: &[ItemReport], words: impl Fn(&ItemReport) -> String) -> String {
    const SHOWN: usize = 3;
    let mut text = items
        .iter()
        .take(SHOWN)
        .map(|item| format!("item {}: {}", item.item_id, words(item)))
        .collect::<Vec<_>>()
        .join("; ");
    if items.len() > SHOWN {
        let _ = write!(text, "; and {} more", items.len() - SHOWN);
    }
    text
}

fn gateway(inputs: &CheckInputs<'_>, pages: &Pages, checks: &mut Vec<Check>) {
    let (before, after) = match pages {
        Ok((before, after)) => (before, after),
        Err(reason) => {
            checks.extend(counters::OF_GATEWAY.map(|name| unreadable(name, reason)));
            return;
        }
    };
    checks.extend(counters::gateway(inputs.counted, inputs.record));

    let kind = CheckKind::Threshold;
    let failed = after.rise(before, "gateway_orders_failed_total").unwrap_or(f64::NAN);
    let received = after.rise(before, "gateway_orders_received_total").unwrap_or(f64::NAN);
    let share = if received == 0.0 { 0.0 } else { failed / received };
    let limit = inputs.plan.thresholds.failed_share_max;
    let detail = format!("alert HighFailureRate: {failed} failed of {received} received");
    checks.push(check("gateway_failed_share", kind, share, "<=", limit, detail));
    // 0 closed, 1 open, 2 half-open: only open is an alert; it must not be open after the sale.
    let state = after.max("gateway_circuit_breaker_state").unwrap_or(f64::NAN);
    let is_open = if state.is_nan() { f64::NAN } else { f64::from(u8::from((state - 1.0).abs() < 0.5)) };
    let detail = "alert CircuitBreakerOpen: 1 if the circuit breaker is open after the run";
    checks.push(check("gateway_breaker_open", kind, is_open, "=", 0.0, detail));
}

fn unreadable(name: &str, reason: &str) -> Check {
    let mut broken = not_judged(name, CheckKind::Ledger, "=", 0.0, reason);
    // The page was requested and could not be read: that is a failure.
    broken.state = CheckState::Fail;
    broken
}

fn processor(inputs: &CheckInputs<'_>, pages: &Pages, checks: &mut Vec<Check>) {
    let (before, after) = match pages {
        Ok((before, after)) => (before, after),
        Err(reason) => {
            checks.extend(counters::OF_PROCESSOR.map(|name| unreadable(name, reason)));
            return;
        }
    };
    let final_statuses = inputs.audited.map(|audited| &audited.ledger.ends);
    checks.extend(counters::processor(inputs.counted, final_statuses));

    let kind = CheckKind::Threshold;
    let limits = &inputs.plan.thresholds;
    if let Some(limit_s) = limits.processing_p99_s_max {
        let name = "processing_p99_s";
        let p99_s = after.quantile_of_rise(before, "processor_order_processing_duration_seconds", 0.99);
        checks.push(match p99_s {
            Some(p99_s) => {
                let detail = "alert ProcessingTimeHigh: p99 of the processing time";
                check(name, kind, p99_s, "<=", limit_s, detail)
            }
            None => not_judged(name, kind, "<=", limit_s, "no order was processed"),
        });
    }
    if let Some(limit) = limits.dlq_size_max {
        let size = after.sum("processor_dlq_size").unwrap_or(f64::NAN);
        let detail = "alert DlqSizeHigh: dead letters in the queue";
        checks.push(check("dlq_size", kind, size, "<=", limit as f64, detail));
    }
}
