//! Merges the reports of several generators into one.
//!
//! Histograms, counts, series, orders and units are added exactly, from the field `merge` of each part and
//! from its ledger. `judge` judges the checks that depend on these sums again. Of every other check, the
//! merged report has the worst result of all parts.

use std::collections::BTreeMap;

use report::{
    EndToEndReport, FaultMark, GeneratorReport, ItemReport, LedgerReport, Measured, MetricSeries,
    PhaseReport, PlanSummary, Record, Report, SCHEMA, SeriesReport, Shard, Verdict, Violation, quantiles_ms,
};
use shard::clock;

use crate::counters;
use crate::summary;

/// Checks of the merged report from those of the parts.
mod judge;

/// Merges all shards of one run, given in any order.
///
/// # Errors
/// If the reports are not exactly the shards of one run; names the wrong one.
pub fn merge(mut parts: Vec<Report>) -> Result<Report, String> {
    parts.sort_by_key(|part| part.plan.shard.index);
    let first = parts.first().ok_or("there is nothing to merge")?;
    fit(first, &parts)?;
    let measured = Measured::joined(&parts.iter().map(|part| &part.merge).collect::<Vec<_>>())?;
    let record = measured.record()?;
    let is_interrupted = parts.iter().any(|part| part.verdict == Verdict::Interrupted);
    let ledger = if is_interrupted { None } else { ledger(&parts) };
    let sum = |pick: fn(&Report) -> f64| parts.iter().map(pick).sum::<f64>();
    let mut whole = Report {
        schema: SCHEMA,
        run: first.run.clone(),
        started_at: clock::rfc3339_ms(measured.start_unix_ms),
        plan: plan(&parts, first),
        requests: record.sent,
        asked_rate: sum(|part| part.asked_rate),
        offered_rate: sum(|part| part.offered_rate),
        achieved_rate: sum(|part| part.achieved_rate),
        duration_s: record.last_answer_ns as f64 / 1e9,
        outcomes: summary::outcomes(&record),
        end_to_end: end_to_end(&parts, &record),
        phases: phases(&parts),
        knee: None,
        generator: generator(&parts, &record),
        checks: Vec::new(),
        ledger,
        series: series(&parts, &measured, &record),
        faults: faults(&parts, &measured),
        curve: summary::curve(&record),
        counters: counters::joined(parts.iter().flat_map(|part| &part.counters)),
        verdict: Verdict::Interrupted,
        merge: measured,
    };
    if !is_interrupted {
        whole.checks = judge::checks(&parts, &whole, &record);
        whole.verdict = Verdict::of(&whole.checks);
    }
    Ok(whole)
}

/// Checks that the reports, ordered by shard, are all shards of one run.
fn fit(first: &Report, parts: &[Report]) -> Result<(), String> {
    let count = first.plan.shard.count;
    for part in parts {
        let Shard { index, count: its_count } = part.plan.shard;
        if part.run != first.run {
            return Err(format!("runs {:?} and {:?} are not parts of one run", first.run, part.run));
        }
        if part.plan.seed != first.plan.seed || part.plan.buyers != first.plan.buyers {
            return Err(format!(
                "shard {} was run with a different seed or number of orders",
                part.plan.shard
            ));
        }
        if its_count != count {
            return Err(format!("shard {index}/{its_count} does not belong to a run of {count} shards"));
        }
    }
    for (index, part) in parts.iter().enumerate() {
        match part.plan.shard.index.cmp(&(index as u64)) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => return Err(format!("shard {} is given twice", part.plan.shard)),
            std::cmp::Ordering::Greater => return Err(format!("shard {index}/{count} is missing")),
        }
    }
    if (parts.len() as u64) < count {
        return Err(format!("shard {}/{count} is missing", parts.len()));
    }
    Ok(())
}

fn plan(parts: &[Report], first: &Report) -> PlanSummary {
    PlanSummary {
        requests: parts.iter().map(|part| part.plan.requests).sum(),
        connections: parts.iter().map(|part| part.plan.connections).sum(),
        workers: parts.iter().map(|part| part.plan.workers).sum(),
        shard: Shard::WHOLE,
        ..first.plan.clone()
    }
}

/// CPU shares are those of the busiest generator; CPU time per request is the mean over all requests.
fn generator(parts: &[Report], record: &Record) -> GeneratorReport {
    let most = |pick: fn(&GeneratorReport) -> Option<f64>| {
        parts.iter().filter_map(|part| pick(&part.generator)).reduce(f64::max)
    };
    let cpu_us: Option<f64> =
        parts.iter().map(|part| part.generator.cpu_us_per_request.map(|us| us * part.requests as f64)).sum();
    let is_epoll = |part: &&Report| part.generator.driver == "epoll";
    GeneratorReport {
        lateness_ms: quantiles_ms(&record.lateness),
        connection_wait_ms: quantiles_ms(&record.connection_wait),
        cpu_us_per_request: cpu_us.filter(|_| record.sent > 0).map(|us| us / record.sent as f64),
        busy_share: most(|generator| generator.busy_share),
        starved_share: most(|generator| generator.starved_share),
        reconnects: record.reconnects,
        retries: parts.iter().map(|part| part.generator.retries).sum(),
        retries_given_up: parts.iter().map(|part| part.generator.retries_given_up).sum(),
        driver: parts.iter().find(is_epoll).unwrap_or(&parts[0]).generator.driver,
    }
}

/// `None` if no part followed orders.
fn end_to_end(parts: &[Report], record: &Record) -> Option<EndToEndReport> {
    let followed: Vec<&EndToEndReport> = parts.iter().filter_map(|part| part.end_to_end.as_ref()).collect();
    Some(EndToEndReport {
        count: record.end_to_end.len(),
        one_in: followed.iter().map(|ends| ends.one_in).max()?,
        missed: followed.iter().map(|ends| ends.missed).sum(),
        latency_ms: quantiles_ms(&record.end_to_end),
    })
}

/// Rates and counts are added; quantiles cannot be added, so the worst part's are used.
fn phases(parts: &[Report]) -> Vec<PhaseReport> {
    let mut parts = parts.iter().map(|part| &part.phases);
    let mut whole = parts.next().cloned().unwrap_or_default();
    for part in parts {
        for (mine, theirs) in whole.iter_mut().zip(part) {
            mine.answered_rate += theirs.answered_rate;
            for (&name, count) in &theirs.outcomes {
                *mine.outcomes.entry(name).or_default() += count;
            }
            let worst = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
            mine.p50_ms = worst(mine.p50_ms, theirs.p50_ms);
            mine.p99_ms = worst(mine.p99_ms, theirs.p99_ms);
            mine.held &= theirs.held;
        }
    }
    whole
}

/// Samples of all parts, ordered by time.
fn series(parts: &[Report], measured: &Measured, record: &Record) -> SeriesReport {
    let mut stock = Vec::new();
    let mut lag = Vec::new();
    for part in parts {
        let delay_ms = part.merge.start_unix_ms - measured.start_unix_ms;
        stock.extend(part.series.stock.iter().cloned().map(|mut sample| {
            sample.at_ms += delay_ms;
            sample
        }));
        lag.extend(part.series.lag.iter().copied().map(|mut sample| {
            sample.at_ms += delay_ms;
            sample
        }));
    }
    stock.sort_by_key(|sample| sample.at_ms);
    lag.sort_by_key(|sample| sample.at_ms);
    let with_stock = parts.iter().find(|part| !part.series.stock_items.is_empty());
    SeriesReport {
        width_ms: record.series.width_ms(),
        buckets: summary::buckets(&record.series),
        stock_items: with_stock.map(|part| part.series.stock_items.clone()).unwrap_or_default(),
        stock,
        lag,
        metrics: metrics(parts, measured),
    }
}

/// All parts scrape the same target, so the part with the most samples is used.
fn metrics(parts: &[Report], measured: &Measured) -> MetricSeries {
    let Some(part) = parts.iter().max_by_key(|part| part.series.metrics.samples.len()) else {
        return MetricSeries::default();
    };
    let delay_ms = part.merge.start_unix_ms - measured.start_unix_ms;
    let mut metrics = part.series.metrics.clone();
    metrics.samples.iter_mut().for_each(|sample| sample.at_ms += delay_ms);
    metrics
}

fn faults(parts: &[Report], measured: &Measured) -> Vec<FaultMark> {
    let mut faults: Vec<_> = parts
        .iter()
        .flat_map(|part| {
            let delay_ms = part.merge.start_unix_ms - measured.start_unix_ms;
            part.faults.iter().cloned().map(move |mut fault| {
                fault.at_ms += delay_ms;
                fault
            })
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

/// `None` if any part was not audited.
fn ledger(parts: &[Report]) -> Option<LedgerReport> {
    let ledgers: Vec<&LedgerReport> = parts.iter().map(|part| part.ledger.as_ref()).collect::<Option<_>>()?;
    let sum = |pick: fn(&LedgerReport) -> u64| ledgers.iter().map(|ledger| pick(ledger)).sum();
    let mut ends = BTreeMap::new();
    for (&end, count) in ledgers.iter().flat_map(|ledger| &ledger.ends) {
        *ends.entry(end).or_default() += count;
    }
    Some(LedgerReport {
        source: ledgers.first()?.source,
        orders: sum(|ledger| ledger.orders),
        acknowledged: sum(|ledger| ledger.acknowledged),
        refused: sum(|ledger| ledger.refused),
        indeterminate: sum(|ledger| ledger.indeterminate),
        ends,
        unfinished: sum(|ledger| ledger.unfinished),
        pending: sum(|ledger| ledger.pending),
        pending_recorded: sum(|ledger| ledger.pending_recorded),
        drain_ms: ledgers.iter().map(|ledger| ledger.drain_ms).max()?,
        stock_read_unix_ms: ledgers.iter().filter_map(|ledger| ledger.stock_read_unix_ms).max(),
        stock_looks: sum(|ledger| ledger.stock_looks),
        stock_unknown: sum(|ledger| ledger.stock_unknown),
        items: items(&ledgers),
        violations: violations(&ledgers),
    })
}

/// Sums the orders of all parts. `left` is the last reading of any part: by then the orders of every part
/// have their final status, because each part reads the stock after its own drain. `restocked` is the
/// increase of the store's ledger from the reading of the first part, which set the stock, to the last
/// reading of any part.
fn items(ledgers: &[&LedgerReport]) -> Vec<ItemReport> {
    let first = &ledgers[0];
    let restocked = |last: &ItemReport| {
        let first = first.items.iter().find(|item| item.item_id == last.item_id)?;
        Some(last.brought_in? - (first.brought_in? - first.restocked))
    };
    let Some(last) = ledgers.iter().max_by_key(|ledger| ledger.stock_read_unix_ms) else { return Vec::new() };
    let of_all = |item: &ItemReport| {
        let its = || ledgers.iter().flat_map(|l| &l.items).filter(|other| other.item_id == item.item_id);
        ItemReport {
            item_id: item.item_id.clone(),
            seeded: item.seeded,
            restocked: restocked(item).unwrap_or(item.restocked),
            brought_in: item.brought_in,
            left: item.left,
            sold: its().map(|item| item.sold).sum(),
            refunded: its().map(|item| item.refunded).sum(),
            sold_out_refusals: its().map(|item| item.sold_out_refusals).sum(),
            least_seen: its().filter_map(|item| item.least_seen).min(),
        }
    };
    last.items.iter().map(of_all).collect()
}

fn violations(ledgers: &[&LedgerReport]) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for violation in ledgers.iter().flat_map(|ledger| &ledger.violations) {
        match violations.iter_mut().find(|other| other.rule == violation.rule) {
            Some(other) => {
                other.count += violation.count;
                other.request_ids.extend_from_slice(&violation.request_ids);
                other.request_ids.truncate(audit::ledger::NAMED_MAX);
            }
            None => violations.push(violation.clone()),
        }
    }
    violations
}
