//! Every check of a run, by name, with what was found and what was allowed.

use std::fmt::Write as _;

use crate::audit::{Audited, NO_OVERSELL};
use crate::counters::{self, Counted};
use crate::end_to_end::Ends;
use crate::faults::Made;
use crate::ledger::Rule;
use crate::metrics::MetricsPage;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::record::{Record, quantile_ms};
use crate::report::{Check, CheckKind, CheckState, ItemReport, LedgerReport};

/// One page before the run and one after it, or why there is none.
pub(crate) type Pages = Result<(MetricsPage, MetricsPage), String>;

/// Everything that is judged.
pub(crate) struct Evidence<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) record: &'a Record,
    pub(crate) offered_rate: f64,
    /// `None` when the kernel does not tell.
    pub(crate) busy_share: Option<f64>,
    /// `None` when no audit was asked for.
    pub(crate) audited: Option<&'a Audited>,
    /// `None` when they were not asked for.
    pub(crate) gateway: Option<&'a Pages>,
    pub(crate) processor: Option<&'a Pages>,
    /// The counters of the same pages.
    pub(crate) counted: &'a [Counted],
    /// `None` when they were not followed.
    pub(crate) ends: Option<&'a Ends>,
    pub(crate) faults: &'a [Made],
}

/// All checks, in the order of the report.
pub(crate) fn checks(evidence: &Evidence<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    validity(evidence, &mut checks);
    thresholds(evidence, &mut checks);
    if let Some(audited) = evidence.audited {
        orders(evidence, audited, &mut checks);
        checks.extend(units(&audited.ledger, evidence.plan.amount_max));
    }
    if let Some(pages) = evidence.gateway {
        gateway(evidence, pages, &mut checks);
    }
    if let Some(pages) = evidence.processor {
        processor(evidence, pages, &mut checks);
    }
    checks
}

pub(crate) fn check(
    name: &str,
    kind: CheckKind,
    value: f64,
    relation: &'static str,
    limit: f64,
    detail: impl Into<String>,
) -> Check {
    let holds = match relation {
        "<=" => value <= limit,
        ">=" => value >= limit,
        // Counts: exact in a double up to 2^53.
        _ => (value - limit).abs() < 0.5,
    };
    let state = if holds { CheckState::Pass } else { CheckState::Fail };
    Check { name: name.to_owned(), kind, state, value: Some(value), relation, limit, detail: detail.into() }
}

fn not_judged(
    name: &str,
    kind: CheckKind,
    relation: &'static str,
    limit: f64,
    why: impl Into<String>,
) -> Check {
    let state = CheckState::NotJudged;
    Check { name: name.to_owned(), kind, state, value: None, relation, limit, detail: why.into() }
}

fn validity(evidence: &Evidence<'_>, checks: &mut Vec<Check>) {
    let limits = &evidence.plan.thresholds;
    let kind = CheckKind::Validity;
    if !evidence.plan.faults.is_empty() {
        let troubles: Vec<String> = evidence
            .faults
            .iter()
            .filter_map(|made| Some(format!("{}: {}", made.name, made.trouble.as_ref()?)))
            .collect();
        let missed = evidence.plan.faults.len() - evidence.faults.len();
        let mut detail = troubles.join("; ");
        if detail.is_empty() {
            "fault scripts that failed or were never due".clone_into(&mut detail);
        }
        checks.push(check("faults_were_made", kind, (troubles.len() + missed) as f64, "=", 0.0, detail));
    }
    // A closed loop is meant to be as busy as it can, and has no times to be late for.
    if evidence.plan.closed {
        return;
    }
    if let Some(limit_ms) = limits.lateness_p99_ms_max {
        let p99_ms = quantile_ms(&evidence.record.lateness, 0.99);
        let detail = "p99 of the generator's own lateness, without waiting for connections, ms";
        checks.push(check("generator_lateness_ms", kind, p99_ms, "<=", limit_ms, detail));
    }
    if let Some(limit) = limits.busy_share_max {
        let name = "generator_busy_share";
        checks.push(match evidence.busy_share {
            Some(share) => check(
                name,
                kind,
                share,
                "<=",
                limit,
                "share of the run that the generator's busiest core ran",
            ),
            None => not_judged(name, kind, "<=", limit, "the kernel does not tell"),
        });
    }
}

fn thresholds(evidence: &Evidence<'_>, checks: &mut Vec<Check>) {
    let Evidence { plan, record, .. } = evidence;
    let limits = &plan.thresholds;
    let kind = CheckKind::Threshold;
    if let Some(limit_ms) = limits.p99_ms_max {
        checks.push(accepted_p99(record, limit_ms));
    }
    if let Some(limit) = limits.offered_share_min.filter(|_| !plan.closed) {
        checks.push(offered_share(evidence.offered_rate, plan.own_rate(), limit));
    }
    checks.push(buyers_failed_share(record, limits.failed_share_max));
    let detail = "answers that the order cannot deserve: 400 to a good one, anything but 400 to a wrong one, 422 \
                  without other contents, statuses that the contract does not know";
    checks.push(check("no_unexpected_answers", kind, record.unexpected as f64, "=", 0.0, detail));
    if let Some(limit_ms) = limits.end_to_end_p99_ms_max {
        let name = "end_to_end_p99_ms";
        checks.push(match evidence.ends.filter(|ends| !ends.histogram.is_empty()) {
            Some(ends) => {
                let p99_ms = quantile_ms(&ends.histogram, 0.99);
                check(name, kind, p99_ms, "<=", limit_ms, "p99 from the intended time to the order's end, ms")
            }
            None => not_judged(name, kind, "<=", limit_ms, "no order was followed to its end"),
        });
    }
}

pub(crate) fn accepted_p99(record: &Record, limit_ms: f64) -> Check {
    let (name, kind) = ("accepted_p99_ms", CheckKind::Threshold);
    match &record.latencies[Outcome::Accepted as usize] {
        Some(latencies) => {
            let p99_ms = quantile_ms(&latencies.intended, 0.99);
            check(name, kind, p99_ms, "<=", limit_ms, "p99 of the 202 answers from the intended time, ms")
        }
        None => not_judged(name, kind, "<=", limit_ms, "there was no 202 answer"),
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
    let detail = format!("{failed} of {all} requests: 500, 503, other, time-out, reset or unsent");
    check("buyers_failed_share", CheckKind::Threshold, share, "<=", limit, detail)
}

fn orders(evidence: &Evidence<'_>, audited: &Audited, checks: &mut Vec<Check>) {
    let kind = CheckKind::Ledger;
    let own = evidence.plan.shard.own(evidence.plan.buyers) as f64;
    let detail = match &audited.trouble {
        None => format!("orders looked up in {}", audited.ledger.source),
        Some(reason) => format!("the audit could not go on: {reason}"),
    };
    checks.push(check("audit_complete", kind, audited.looked_at as f64, "=", own, detail));
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
        let offence = audited.ledger.offences.iter().find(|offence| offence.rule == rule.name());
        let count = offence.map_or(0, |offence| offence.count);
        let mut detail = rule.sentence().to_owned();
        if let Some(offence) = offence {
            detail.push_str(": ");
            detail.push_str(&some_ids(&offence.request_ids, count));
        }
        checks.push(check(rule.name(), kind, count as f64, "=", 0.0, detail));
    }
}

/// The first ids, and how many more there are.
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

/// The checks of units, from the books of all orders of a run.
pub(crate) fn units(ledger: &LedgerReport, amount_max: u32) -> Vec<Check> {
    let mut checks = Vec::new();
    let kind = CheckKind::Ledger;
    let LedgerReport { items, source, offences, .. } = ledger;
    let names = [NO_OVERSELL, "units_add_up", "stock_never_negative", "no_undersell"];
    if items.is_empty() || items.iter().any(|item| item.left.is_none()) {
        let why = if items.is_empty() {
            format!("{source} knows no stock")
        } else {
            "the stock of an item is unknown after the run".to_owned()
        };
        for name in names {
            // An unknown level at the end of a sale we stocked ourselves is a fault, not a gap in what can be
            // known.
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
    if let Some(offence) = offences.iter().find(|offence| offence.rule == NO_OVERSELL) {
        detail.push_str("; beyond the stock: ");
        detail.push_str(&some_ids(&offence.request_ids, offence.count));
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
        detail.push_str("; a plain SET of the key is in no ledger: restock by flash-sale stock add");
    }
    checks.push(check("units_add_up", kind, gaps as f64, "=", 0.0, detail));

    let least = items.iter().filter_map(|item| item.least_seen.into_iter().chain(item.left).min()).min();
    let LedgerReport { stock_looks, stock_unknown, .. } = ledger;
    let detail = format!("least level of {stock_looks} looks, {stock_unknown} of them without a known level");
    checks.push(check("stock_never_negative", kind, least.unwrap_or(0) as f64, ">=", 0.0, detail));

    checks.push(no_undersell(amount_max, items));
    checks
}

/// Sold out may be said while units are left only if these came by refunds or restocks afterwards, or are too
/// few for the order that was refused.
fn no_undersell(amount_max: u32, items: &[ItemReport]) -> Check {
    let came_back = |item: &ItemReport| item.refunded as i64 + item.restocked.max(0);
    let allowed = |item: &ItemReport| came_back(item) + i64::from(amount_max) - 1;
    let worst = items
        .iter()
        .filter(|item| item.sold_out_refusals > 0)
        .max_by_key(|item| item.left.unwrap_or(0) - allowed(item));
    let name = "no_undersell";
    match worst {
        None => check(name, CheckKind::Ledger, 0.0, "<=", 0.0, "nobody was told that an item is sold out"),
        Some(item) => {
            let left = item.left.unwrap_or(0);
            let detail = format!(
                "item {}: {left} units left after {} sold-out refusals, {} units refunded or restocked on the way",
                item.item_id,
                item.sold_out_refusals,
                came_back(item)
            );
            check(name, CheckKind::Ledger, left as f64, "<=", allowed(item) as f64, detail)
        }
    }
}

/// The first items in words.
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

fn gateway(evidence: &Evidence<'_>, pages: &Pages, checks: &mut Vec<Check>) {
    let (before, after) = match pages {
        Ok((before, after)) => (before, after),
        Err(reason) => {
            checks.extend(counters::OF_GATEWAY.map(|name| unreadable(name, reason)));
            return;
        }
    };
    checks.extend(counters::gateway(evidence.counted, evidence.record));

    let kind = CheckKind::Threshold;
    let failed = after.rise(before, "gateway_orders_failed_total").unwrap_or(f64::NAN);
    let received = after.rise(before, "gateway_orders_received_total").unwrap_or(f64::NAN);
    let share = if received == 0.0 { 0.0 } else { failed / received };
    let limit = evidence.plan.thresholds.failed_share_max;
    let detail = format!("runbook alert 4: {failed} failed of {received} received");
    checks.push(check("gateway_failed_share", kind, share, "<=", limit, detail));
    // 0 closed, 1 open, 2 half-open: only open is an alert, and it must not be open when the sale is over.
    let state = after.max("gateway_circuit_breaker_state").unwrap_or(f64::NAN);
    let is_open = if state.is_nan() { f64::NAN } else { f64::from(u8::from((state - 1.0).abs() < 0.5)) };
    let detail = "runbook alert 1: 1 when the circuit breaker is open after the run";
    checks.push(check("gateway_breaker_open", kind, is_open, "=", 0.0, detail));
}

fn unreadable(name: &str, reason: &str) -> Check {
    let mut broken = not_judged(name, CheckKind::Ledger, "=", 0.0, reason);
    // Asked for and not to be had: that is not held.
    broken.state = CheckState::Fail;
    broken
}

fn processor(evidence: &Evidence<'_>, pages: &Pages, checks: &mut Vec<Check>) {
    let (before, after) = match pages {
        Ok((before, after)) => (before, after),
        Err(reason) => {
            checks.extend(counters::OF_PROCESSOR.map(|name| unreadable(name, reason)));
            return;
        }
    };
    let ends = evidence.audited.map(|audited| &audited.ledger.ends);
    checks.extend(counters::processor(evidence.counted, ends));

    let kind = CheckKind::Threshold;
    let limits = &evidence.plan.thresholds;
    if let Some(limit_s) = limits.processing_p99_s_max {
        let name = "processing_p99_s";
        let p99_s = after.quantile_of_rise(before, "processor_order_processing_duration_seconds", 0.99);
        checks.push(match p99_s {
            Some(p99_s) => {
                check(name, kind, p99_s, "<=", limit_s, "runbook alert 5: p99 of the processing time")
            }
            None => not_judged(name, kind, "<=", limit_s, "no order was processed"),
        });
    }
    if let Some(limit) = limits.dlq_size_max {
        let size = after.sum("processor_dlq_size").unwrap_or(f64::NAN);
        checks.push(check("dlq_size", kind, size, "<=", limit as f64, "runbook alert 2: dead letters"));
    }
}
