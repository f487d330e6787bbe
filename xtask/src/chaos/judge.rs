//! Checks which invariants hold after a run: those of the load generator's audit, and further ones about recovery and
//! processes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use testkit::redis::{self, Reply};

use crate::chaos::fault::Fault;
use crate::chaos::world::World;

/// All invariants in the order of `docs/faults.md`: name and requirement.
pub(crate) const EQUATIONS: &[(&str, &str)] = &[
    ("audit_complete", "every order of the load was looked up"),
    ("every_202_ends_once", "every 202 has exactly one final status"),
    ("recorded_202_ends", "no acknowledged order with a record in the topic stays PENDING"),
    ("ends_never_change", "a final status never changes"),
    ("no_id_acknowledged_twice", "a request id gets 202 once"),
    ("refused_leaves_nothing", "a refused order has no status"),
    ("every_409_has_a_first", "409 is returned only if an earlier order with the same request id exists"),
    ("unsent_is_unknown", "an order that was never sent has no status"),
    ("every_202_is_in_the_topic", "every 202 has a record in `orders`"),
    ("refused_is_not_in_the_topic", "no refused order has a record in `orders`"),
    ("letters_match_ends", "failed payments and unknown items have a dead letter, other orders have none"),
    ("no_oversell", "no item sold more units than it had"),
    ("units_add_up", "sold + left = seeded + restocked, for every item"),
    ("stock_never_negative", "no stock level was below zero"),
    ("no_undersell", "no buyer got a sold-out response while units were left"),
    ("no_unexpected_answers", "no response that is impossible for the order"),
    ("no_500", "a failing dependency never causes a 500"),
    ("probes_end_once", "every accepted probe has a final status"),
    (
        "lost_is_reported",
        "`flash-sale stock audit` reports how many acknowledged orders are PENDING without a record",
    ),
    ("recovers_in_time", "the first 202 is received within the limit after each repair"),
    ("no_process_ends_by_itself", "gateway and processors keep running"),
    ("healthy_at_the_end", "`/health` returns 200 once everything is repaired"),
    ("stops_on_sigterm", "every process exits 0 within 45 s of SIGTERM"),
    ("every_fault_was_under_load", "orders were being sent at every injection"),
];

/// Result of an invariant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judged {
    /// Number of violations; `None` if the invariant could not be checked.
    pub(crate) count: Option<u64>,
    /// Request ids and numbers, for finding the cause.
    pub(crate) detail: String,
}

/// Results by name of the invariant.
pub(crate) type Verdict = BTreeMap<&'static str, Judged>;

/// Records the result of an invariant.
pub(crate) fn note(verdict: &mut Verdict, name: &str, count: u64, detail: impl Into<String>) {
    let name = known(name).expect("the invariant is listed in EQUATIONS");
    verdict.insert(name, Judged { count: Some(count), detail: detail.into() });
}

fn known(name: &str) -> Option<&'static str> {
    EQUATIONS.iter().map(|&(known, _)| known).find(|&known| known == name)
}

/// The violations that the fault does not excuse.
pub(crate) fn violations<'a>(
    fault: &'a Fault,
    verdict: &'a Verdict,
) -> impl Iterator<Item = (&'static str, &'a Judged)> {
    let is_excused = |name: &str| fault.excused.iter().any(|(excused, _)| *excused == name);
    let broken = verdict.iter().filter(|(_, judged)| judged.count != Some(0));
    broken.filter(move |(name, _)| !is_excused(name)).map(|(&name, judged)| (name, judged))
}

/// Results of those checks in the load generator's report that are invariants.
pub(crate) fn of_report(report: &Value) -> Verdict {
    let mut verdict = Verdict::new();
    for check in report["checks"].as_array().into_iter().flatten() {
        let Some(name) = check["name"].as_str().and_then(known) else { continue };
        let number = |field: &str| check[field].as_f64().unwrap_or_default();
        let count = match check["state"].as_str() {
            Some("pass") => Some(0),
            Some("fail") => Some(((number("value") - number("limit")).abs().ceil() as u64).max(1)),
            _ => None,
        };
        let mut detail = check["detail"].as_str().unwrap_or_default().to_owned();
        let violations = report["ledger"]["offences"].as_array().into_iter().flatten();
        for violation in violations.filter(|violation| violation["rule"] == name) {
            detail = format!("{detail}; first request ids: {}", violation["request_ids"]);
        }
        verdict.insert(name, Judged { count, detail });
    }
    let ledger = |field: &str| report["ledger"][field].as_u64().unwrap_or_default();
    note(
        &mut verdict,
        "recorded_202_ends",
        ledger("pending_recorded"),
        "acknowledged, in the topic, PENDING",
    );
    note(&mut verdict, "no_500", outcome(report, "500"), "answers with status 500");
    verdict
}

/// Number of requests of the load with this outcome.
fn outcome(report: &Value, name: &str) -> u64 {
    report["outcomes"][name]["count"].as_u64().unwrap_or_default()
}

/// Number of requests of the load per outcome.
pub(crate) fn outcomes(report: &Value) -> Vec<(String, u64)> {
    let outcomes = report["outcomes"].as_object().into_iter().flatten();
    outcomes.map(|(name, outcome)| (name.clone(), outcome["count"].as_u64().unwrap_or_default())).collect()
}

/// Checks that every accepted probe has a final status.
pub(crate) fn probes(world: &World, accepted: &[String], verdict: &mut Verdict) {
    let mut open: Vec<String> = accepted.to_vec();
    // Nearly all probes were sent before the last orders of the load, which already have their final statuses. The loop
    // waits for the very last ones.
    for _ in 0..20 {
        open = without_final_status(world, &open);
        if open.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let first: Vec<&str> = open.iter().take(20).map(String::as_str).collect();
    note(
        verdict,
        "probes_end_once",
        open.len() as u64,
        format!("of {}: {}", accepted.len(), first.join(", ")),
    );
}

fn without_final_status(world: &World, ids: &[String]) -> Vec<String> {
    let mut open = Vec::new();
    for some in ids.chunks(500) {
        let keys: Vec<String> = some.iter().map(|id| format!("order_status:{id}")).collect();
        let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
        let Reply::Array(replies) = redis::call(&world.redis.addr(), &words) else {
            open.extend_from_slice(some);
            continue;
        };
        let is_final = |reply: &Reply| reply.text().is_some_and(|text| !text.starts_with("PENDING"));
        open.extend(
            some.iter().zip(&replies).filter(|(_, reply)| !is_final(reply)).map(|(id, _)| id.clone()),
        );
    }
    open
}

/// Checks that lost records are reported: `flash-sale stock audit` must print how many orders are PENDING without a record.
pub(crate) fn lost(world: &World, report: &Value, verdict: &mut Verdict) {
    let ledger = |field: &str| report["ledger"][field].as_u64().unwrap_or_default();
    let lost = ledger("pending").saturating_sub(ledger("pending_recorded"));
    if lost == 0 {
        note(verdict, "lost_is_reported", 0, "nothing was lost");
        return;
    }
    let output = world.command(&["stock", "audit"]).output();
    let printed = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed);
    // "17 orders are PENDING for longer: …"
    let line = printed.lines().find(|line| line.contains("orders are PENDING for longer"));
    let reported: u64 = line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0);
    // `reported` may also include probes and orders that got no response.
    let missing = lost.saturating_sub(reported);
    let explained = printed.lines().find(|line| line.contains("orders are PENDING; consumer lag"));
    let detail = format!(
        "{lost} acknowledged orders are PENDING and have no record; `stock audit` lists {reported}: {}",
        explained.or_else(|| printed.lines().last()).unwrap_or("no output")
    );
    note(verdict, "lost_is_reported", missing, detail);
}

#[cfg(test)]
mod tests {
    use super::{EQUATIONS, of_report};
    use serde_json::json;

    #[test]
    fn failed_check_counts_its_distance_from_the_limit() {
        let report = json!({
            "checks": [
                {"name": "every_202_ends_once", "state": "fail", "value": 3.0, "limit": 0.0, "detail": "3 of them"},
                {"name": "units_add_up", "state": "pass", "value": 0.0, "limit": 0.0, "detail": ""},
                {"name": "no_undersell", "state": "not_judged", "value": null, "limit": 0.0, "detail": ""},
                {"name": "offered_share", "state": "fail", "value": 0.5, "limit": 0.95, "detail": ""},
            ],
            "outcomes": {"500": {"count": 7}},
            "ledger": {"offences": [{"rule": "every_202_ends_once", "request_ids": ["a-1"]}]},
        });
        let verdict = of_report(&report);
        assert_eq!(verdict["every_202_ends_once"].count, Some(3));
        assert!(verdict["every_202_ends_once"].detail.contains("a-1"));
        assert_eq!(verdict["units_add_up"].count, Some(0));
        assert_eq!(verdict["no_undersell"].count, None);
        assert_eq!(verdict["no_500"].count, Some(7));
        assert!(!verdict.contains_key("offered_share"));
        assert!(verdict.keys().all(|name| EQUATIONS.iter().any(|(known, _)| known == name)));
    }
}
