use audit::ledger::Rule;
use report::check::check;
use report::{Check, CheckKind, CheckState, Record, Report};

use crate::counters::{self, OF_GATEWAY, OF_PROCESSOR};
use crate::verdict;

/// Counts of orders, each of which belongs to one part: the sum is judged against the sum of the limits.
const SUMMED: [&str; 2] = ["audit_complete", "no_unexpected_answers"];
/// Checks judged from the units of all orders.
const OF_UNITS: [&str; 4] = ["no_oversell", "units_add_up", "stock_never_negative", "no_undersell"];
/// Share of the shortest part's duration: generators that started further apart did not send the plan
/// together.
const START_SPREAD_SHARE_MAX: f64 = 0.1;
/// Processes on two machines cannot be started by hand more exactly than this.
const START_SPREAD_MS_MIN: f64 = 1_000.0;

/// Every check that any part had, in the order of the parts.
///
/// These are judged again: `accepted_p99_ms` and `buyers_failed_share` from the added histograms and counts,
/// `offered_share` from the added rates, rules about single orders, `audit_complete` and
/// `no_unexpected_answers` from added counts, units from the added ledger, the target's counters from the
/// earliest reading before the run to the latest reading after it. `shards_start_spread_ms` is added. All
/// other checks, including the generators' own validity, have the worst result of all parts.
pub(super) fn checks(parts: &[Report], whole: &Report, record: &Record) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    if let Some(spread) = start_spread(parts) {
        checks.push(spread);
    }
    let units = whole.ledger.as_ref().map(|ledger| verdict::units(ledger, whole.plan.amount_max));
    let mut counts = counters::gateway(&whole.counters, record);
    counts.extend(counters::processor(&whole.counters, whole.ledger.as_ref().map(|ledger| &ledger.ends)));
    for check in parts.iter().flat_map(|part| &part.checks) {
        if checks.iter().any(|other| other.name == check.name) {
            continue;
        }
        let name = check.name.as_str();
        let own: Vec<(&Report, &Check)> = parts
            .iter()
            .filter_map(|part| Some((part, part.checks.iter().find(|check| check.name == name)?)))
            .collect();
        checks.push(match name {
            "accepted_p99_ms" => verdict::accepted_p99(record, check.limit),
            "buyers_failed_share" => verdict::buyers_failed_share(record, check.limit),
            "offered_share" => verdict::offered_share(whole.offered_rate, whole.asked_rate, check.limit),
            _ if SUMMED.contains(&name) || is_rule(name) => sum(&own),
            _ if OF_UNITS.contains(&name) => {
                let judged = units.as_ref().and_then(|units| units.iter().find(|unit| unit.name == name));
                judged.cloned().unwrap_or_else(|| worst(&own))
            }
            _ if OF_GATEWAY.contains(&name) || OF_PROCESSOR.contains(&name) => {
                let is_unreadable = own.iter().any(|(_, check)| check.state == CheckState::Fail);
                let judged = counts.iter().find(|count| count.name == name).filter(|_| !is_unreadable);
                judged.cloned().unwrap_or_else(|| worst(&own))
            }
            _ => worst(&own),
        });
    }
    checks
}

fn is_rule(name: &str) -> bool {
    Rule::ALL.into_iter().any(|rule| rule.name() == name)
}

/// `None` for an unsharded run.
fn start_spread(parts: &[Report]) -> Option<Check> {
    let starts = || parts.iter().map(|part| part.merge.start_unix_ms);
    let spread_ms = starts().max()? - starts().min()?;
    let shortest_s = parts.iter().map(|part| part.duration_s).reduce(f64::min)?;
    let detail = "time between the first and the last generator's start; they should send together, so the limit \
                  is a tenth of the shortest part's duration, at least a second";
    (parts.len() > 1).then(|| {
        let limit_ms = (shortest_s * 1e3 * START_SPREAD_SHARE_MAX).round().max(START_SPREAD_MS_MIN);
        check("shards_start_spread_ms", CheckKind::Validity, spread_ms as f64, "<=", limit_ms, detail)
    })
}

/// Sums counts. If a part was not judged, the sum is not judged; if a part failed, the sum failed.
fn sum(own: &[(&Report, &Check)]) -> Check {
    if own.iter().any(|(_, check)| check.value.is_none()) {
        return worst(own);
    }
    let (_, first) = own[0];
    let value: f64 = own.iter().filter_map(|(_, check)| check.value).sum();
    let limit: f64 = own.iter().map(|(_, check)| check.limit).sum();
    let mut summed = check(&first.name, first.kind, value, first.relation, limit, first.detail.as_str());
    let failed: Vec<&str> = own
        .iter()
        .filter(|(_, check)| check.state == CheckState::Fail)
        .map(|(_, check)| check.detail.as_str())
        .collect();
    if !failed.is_empty() {
        // A failed part cannot be compensated by another.
        summed.state = CheckState::Fail;
        summed.detail = failed.join("; ");
    }
    summed
}

/// The worst of all parts; among equals, the one furthest from its limit.
fn worst(own: &[(&Report, &Check)]) -> Check {
    let rank = |check: &Check| match check.state {
        CheckState::Pass => 0,
        CheckState::NotJudged => 1,
        CheckState::Warned => 2,
        CheckState::Fail => 3,
    };
    let badness = |check: &Check| {
        let beyond = check.value.unwrap_or(f64::INFINITY) - check.limit;
        match check.relation {
            "<=" => beyond,
            ">=" => -beyond,
            _ => beyond.abs(),
        }
    };
    let worse = |one: &&(&Report, &Check), other: &&(&Report, &Check)| {
        rank(one.1).cmp(&rank(other.1)).then(badness(one.1).total_cmp(&badness(other.1)))
    };
    let (part, check) = own.iter().max_by(worse).copied().unwrap_or(own[0]);
    of_part(part, check, own.len())
}

fn of_part(part: &Report, check: &Check, parts: usize) -> Check {
    let mut check = check.clone();
    if parts > 1 {
        check.detail = format!("{} (the worst of {parts} shards: {})", check.detail, part.plan.shard.index);
    }
    check
}
