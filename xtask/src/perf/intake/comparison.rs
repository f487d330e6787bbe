//! Measures one run, and defines the order in which candidates are measured.
//!
//! All candidates run at the same time and are measured one after another; each round starts with a different one. Slow
//! changes of the machine (the broker's JIT, other virtual machines on the host) then affect all of them equally. Medians
//! over the rounds are reported.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Load};
use crate::step::{self, Result};

/// Duration of each candidate's warm-up.
const WARM_UP_S: u64 = 3;

/// A server and how it is measured.
pub(super) struct Candidate {
    pub(super) who: &'static str,
    pub(super) actor: Actor,
    /// Numbers of connections measured in every round.
    pub(super) every_round: &'static [usize],
    /// Numbers of connections measured only in the first round.
    pub(super) once: &'static [usize],
    /// Whether its system calls and allocations are counted too.
    pub(super) is_counted: bool,
}

/// One row of the table. NaN for figures that do not exist in this row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) who: &'static str,
    /// 0 if the row has no connections.
    pub(super) connections: usize,
    /// Acknowledged orders per second.
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    /// CPU of each process, µs per acknowledged order.
    pub(super) server_us: f64,
    pub(super) redis_us: f64,
    pub(super) kafka_us: f64,
    pub(super) client_us: f64,
    /// Commands sent to Redis per order, and commands executed by Redis including those inside scripts.
    pub(super) redis_calls: f64,
    pub(super) redis_commands: f64,
    /// Counts for the server, from separate runs.
    pub(super) syscalls: f64,
    pub(super) allocations: f64,
    pub(super) rss_mib: f64,
    /// Responses other than an acknowledgement, and failed requests.
    pub(super) refused: f64,
}

impl Row {
    /// A row without figures.
    pub(super) fn empty(who: &'static str, connections: usize) -> Self {
        let none = f64::NAN;
        Self {
            who,
            connections,
            rate: none,
            p50_ms: none,
            p99_ms: none,
            p999_ms: none,
            server_us: none,
            redis_us: none,
            kafka_us: none,
            client_us: none,
            redis_calls: none,
            redis_commands: none,
            syscalls: none,
            allocations: none,
            rss_mib: none,
            refused: none,
        }
    }

    /// The median of each figure separately; for memory the minimum, because memory allocated in one round stays
    /// allocated in the later ones.
    pub(super) fn median(rows: &[Row]) -> Option<Self> {
        let first = rows.first()?;
        let of = |pick: fn(&Row) -> f64| median(rows.iter().map(pick));
        Some(Self {
            who: first.who,
            connections: first.connections,
            rate: of(|r| r.rate),
            p50_ms: of(|r| r.p50_ms),
            p99_ms: of(|r| r.p99_ms),
            p999_ms: of(|r| r.p999_ms),
            server_us: of(|r| r.server_us),
            redis_us: of(|r| r.redis_us),
            kafka_us: of(|r| r.kafka_us),
            client_us: of(|r| r.client_us),
            redis_calls: of(|r| r.redis_calls),
            redis_commands: of(|r| r.redis_commands),
            syscalls: of(|r| r.syscalls),
            allocations: of(|r| r.allocations),
            rss_mib: rows.iter().map(|r| r.rss_mib).fold(f64::NAN, f64::min),
            refused: rows.iter().map(|r| r.refused).sum(),
        })
    }
}

/// The median; NaN without values.
pub(in crate::perf) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prefix of the request ids of a run: unique, of constant length.
pub(super) fn new_run_id() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    // Relaxed: the numbers only need to be unique.
    format!("m{:04}x", RUNS.fetch_add(1, Ordering::Relaxed))
}

/// CPU seconds of the processes that handle orders, and Redis's command counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meters {
    server_s: f64,
    redis_s: f64,
    kafka_s: f64,
    scripts: f64,
    commands: f64,
}

impl Meters {
    /// Reads the current values; `server` is `None` if no server takes part.
    pub(super) fn read(stage: &Stage, server: Option<u32>) -> Self {
        let info = |section: &str| stage.redis.call(&["INFO", section]).text().unwrap_or_default();
        let after = |text: &str, name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name));
            let digits =
                rest.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
            digits.and_then(|digits| digits.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let statistics = info("commandstats");
        let called = |name: &str| after(&statistics, &format!("cmdstat_{name}:calls="));
        let commands = after(&info("stats"), "total_commands_processed:");
        let scripts = called("evalsha") + called("eval");
        let seconds = |pid: Option<u32>| pid.map_or(0.0, cpu::family_seconds);
        Self {
            server_s: seconds(server),
            redis_s: seconds(stage.redis.pid()),
            kafka_s: seconds(stage.kafka.pid()),
            scripts,
            commands,
        }
    }

    /// Writes the consumption since `before`, divided by `orders`, into a row.
    pub(super) fn write_to_row(self, before: Self, orders: f64, row: &mut Row) {
        let us = |now: f64, then: f64| (now - then) * 1e6 / orders;
        row.server_us = us(self.server_s, before.server_s);
        row.redis_us = us(self.redis_s, before.redis_s);
        row.kafka_us = us(self.kafka_s, before.kafka_s);
        row.redis_calls = (self.scripts - before.scripts) / orders;
        row.redis_commands = (self.commands - before.commands) / orders;
    }
}

/// Measures one run of wrk; does not change Redis beforehand.
pub(super) fn run_load(
    stage: &Stage,
    actor: &Actor,
    who: &'static str,
    connections: usize,
    seconds: u64,
) -> Result<Row> {
    let before = Meters::read(stage, Some(actor.pid()));
    let run = new_run_id();
    let hits = wrk::run(&Load { address: &actor.address, run: &run, item: "sale", connections, seconds })?;
    let after = Meters::read(stage, Some(actor.pid()));
    let orders = hits.requests.saturating_sub(hits.refused) as f64;
    let mut row = Row::empty(who, connections);
    after.write_to_row(before, orders, &mut row);
    row.rate = orders / hits.seconds;
    row.p50_ms = hits.p50_us as f64 / 1e3;
    row.p99_ms = hits.p99_us as f64 / 1e3;
    row.p999_ms = hits.p999_us as f64 / 1e3;
    row.client_us = hits.cpu_s * 1e6 / orders;
    row.refused = (hits.refused + hits.broken) as f64;
    row.rss_mib =
        cpu::family(actor.pid()).into_iter().map(cpu::rss_bytes).sum::<u64>() as f64 / 1024.0 / 1024.0;
    Ok(row)
}

/// Measures all rounds; returns a row for each candidate and number of connections, in the order of the candidates.
pub(super) fn alternate(stage: &Stage, candidates: &mut [Candidate], options: &Options) -> Result<Vec<Row>> {
    for candidate in candidates.iter_mut() {
        candidate.actor.wait_open()?;
        step::timed(&format!("{}: warm-up", candidate.who), || {
            run_load(stage, &candidate.actor, candidate.who, 256, WARM_UP_S)
        })?;
    }
    let mut runs: Vec<Vec<Row>> = Vec::new();
    for round in 0..options.rounds as usize {
        for step_in_round in 0..candidates.len() {
            let candidate = &candidates[position(round, step_in_round, candidates.len())];
            let once: &[usize] = if round == 0 { candidate.once } else { &[] };
            let mut all = [candidate.every_round, once].concat();
            all.sort_unstable();
            for connections in all {
                let name = format!("round {}: {}, {connections} connections", round + 1, candidate.who);
                // Each run starts with an empty Redis.
                stage.redis.call(&["FLUSHALL"]);
                let row = step::timed(&name, || {
                    run_load(stage, &candidate.actor, candidate.who, connections, options.seconds)
                })?;
                let is_same = |rows: &&mut Vec<Row>| {
                    rows.iter().any(|old| old.who == row.who && old.connections == row.connections)
                };
                match runs.iter_mut().find(is_same) {
                    Some(rows) => rows.push(row),
                    None => runs.push(vec![row]),
                }
            }
        }
    }
    let mut rows: Vec<Row> = runs.iter().filter_map(|rows| Row::median(rows)).collect();
    let order = |row: &Row| candidates.iter().position(|candidate| candidate.who == row.who);
    rows.sort_by_key(|row| (order(row), row.connections));
    Ok(rows)
}

/// Measures a candidate that needs separate services, after all others: one run for each number of connections. It does not
/// alternate with the others, because two brokers would share the cores.
pub(super) fn alone(
    stage: &Stage,
    actor: &Actor,
    who: &'static str,
    all: &[usize],
    seconds: u64,
) -> Result<Vec<Row>> {
    step::timed(&format!("{who}: warm-up"), || run_load(stage, actor, who, 256, 2 * WARM_UP_S))?;
    let measure = |&connections: &usize| {
        stage.redis.call(&["FLUSHALL"]);
        step::timed(&format!("{who}, {connections} connections"), || {
            run_load(stage, actor, who, connections, seconds)
        })
    };
    all.iter().map(measure).collect()
}

/// Index of the candidate to measure: each round starts one further, and every other round runs backwards, so that no
/// candidate always follows the same one.
fn position(round: usize, step: usize, candidates: usize) -> usize {
    let at = (round + step) % candidates;
    if round % 2 == 1 { candidates - 1 - at } else { at }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_candidate_is_measured_once_per_round() {
        for round in 0..5 {
            let mut positions: Vec<usize> = (0..4).map(|step| super::position(round, step, 4)).collect();
            positions.sort_unstable();
            assert_eq!(positions, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn median_is_the_middle_value() {
        assert!((super::median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < f64::EPSILON);
        assert!(super::median(std::iter::empty()).is_nan());
    }
}
