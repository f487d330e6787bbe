//! Judges each phase of a run: share of requests answered, latency, and the first phase that failed.
use report::record::PhaseRecord;
use report::{KneeReport, Outcome, PhaseReport, Record};

use crate::plan::Plan;

/// Share of a phase's requests that must get a response without a failure for the phase to pass.
const ANSWERED_SHARE_MIN: f64 = 0.99;
/// Default p99 limit if the plan has none: how long a buyer waits for the first response.
const P99_MS_MAX: f64 = 1_000.0;

/// One report per phase.
pub(crate) fn report(plan: &Plan, record: &Record) -> Vec<PhaseReport> {
    let mut begins_s = 0.0;
    let p99_ms_max = plan.thresholds.p99_ms_max.unwrap_or(P99_MS_MAX);
    let one = |(phase, phase_record): (&crate::curve::Phase, &PhaseRecord)| {
        let duration_s = phase.duration.as_secs_f64();
        let count = |outcome: Outcome| phase_record.counts[outcome as usize];
        let all: u64 = phase_record.counts.iter().sum();
        let answered: u64 = Outcome::ALL.into_iter().filter(|o| o.is_response()).map(count).sum();
        let failed: u64 = Outcome::ALL.into_iter().filter(|o| o.is_failure()).map(count).sum();
        let p99_ms = phase_record.latency.quantile_ms(0.99);
        let good_share = if all == 0 { 0.0 } else { (all - failed) as f64 / all as f64 };
        let report = PhaseReport {
            name: phase.name.clone(),
            begins_s,
            duration_s,
            asked_rate: phase.arrivals() / duration_s,
            answered_rate: answered as f64 / duration_s,
            outcomes: Outcome::ALL
                .into_iter()
                .map(|outcome| (outcome.name(), count(outcome)))
                .filter(|&(_, count)| count > 0)
                .collect(),
            p50_ms: phase_record.latency.quantile_ms(0.5),
            p99_ms,
            held: good_share >= ANSWERED_SHARE_MIN && p99_ms.is_some_and(|p99_ms| p99_ms <= p99_ms_max),
        };
        begins_s += duration_s;
        report
    };
    plan.phases.iter().zip(&record.phases).map(one).collect()
}

/// The last phase before the first one that failed.
pub(crate) fn knee(plan: &Plan, record: &Record) -> Option<KneeReport> {
    if !plan.finds_knee {
        return None;
    }
    let phases = report(plan, record);
    let first_failed = phases.iter().position(|phase| !phase.held);
    let last = &phases[..first_failed.unwrap_or(phases.len())].last()?;
    Some(KneeReport {
        phase: last.name.clone(),
        rate: last.asked_rate,
        broken_by: first_failed.map(|index| phases[index].name.clone()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use report::Ended;

    use crate::curve::Phase;

    #[test]
    fn the_knee_is_the_last_phase_before_the_first_failure() {
        let mut plan = Plan::new(([127, 0, 0, 1], 1).into());
        let phases = [("a", 100.0), ("b", 200.0), ("c", 300.0)];
        plan.set_phases(
            phases.map(|(name, rate)| Phase::constant(name, rate, Duration::from_secs(1))).to_vec(),
        );
        plan.finds_knee = true;
        let mut record = Record::with_phases(1, 3);
        let mut note = |second: u64, outcome, latency_ms: u64| {
            let intended_ns = second * 1_000_000_000;
            let at_ns = intended_ns + latency_ms * 1_000_000;
            record.ended(&Ended {
                outcome,
                at_ns,
                intended_ns,
                sent_ns: Some(intended_ns),
                phase: Some(second as usize),
            });
        };
        note(0, Outcome::Accepted, 5);
        note(1, Outcome::SoldOut, 5);
        note(2, Outcome::Accepted, 5_000);
        let knee = knee(&plan, &record).expect("two phases passed");
        assert_eq!((knee.phase.as_str(), knee.broken_by.as_deref()), ("b", Some("c")));
        assert!((knee.rate - 200.0).abs() < 1e-9);
    }
}
