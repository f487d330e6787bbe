//! One run and what it cost, and the order in which contestants are measured.
//!
//! All contestants live at the same time and are measured one after another; each round begins with another one. What
//! drifts with the machine (a broker that compiles itself, other guests of the host) then meets all of them alike, and
//! medians over the rounds are told.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Load};
use crate::step::{self, Result};

/// How long each contestant is loaded before anything counts.
const WARM_UP_S: u64 = 3;

/// A server and how it is measured.
pub(super) struct Contestant {
    pub(super) who: &'static str,
    pub(super) actor: Actor,
    /// Connections with which it is measured in every round.
    pub(super) every_round: &'static [usize],
    /// Those with which it is measured in the first round only.
    pub(super) once: &'static [usize],
    /// Whether its system calls and allocations are counted as well.
    pub(super) is_counted: bool,
}

/// One line of the table. NaN where a figure does not exist for this line.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) who: &'static str,
    /// 0 where there are none.
    pub(super) connections: usize,
    /// Acknowledged orders a second.
    pub(super) rate: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    /// CPU of each process, µs an acknowledged order.
    pub(super) server_us: f64,
    pub(super) redis_us: f64,
    pub(super) kafka_us: f64,
    pub(super) client_us: f64,
    /// Commands sent to Redis an order, and commands run by it, those inside scripts included.
    pub(super) redis_calls: f64,
    pub(super) redis_commands: f64,
    /// Of the server, by runs of their own.
    pub(super) syscalls: f64,
    pub(super) allocations: f64,
    pub(super) rss_mib: f64,
    /// Answers other than an acknowledgement, and what broke.
    pub(super) refused: f64,
}

impl Row {
    /// A line of which nothing is known yet.
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

    /// Each figure's median by itself; memory is the least, because what a later round asks for stays in an earlier
    /// one's row.
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

/// The one in the middle; NaN of nothing.
pub(in crate::perf) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// First part of every id of a run: another one for every run, always as long.
pub(super) fn fresh_run() -> String {
    static SHOTS: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only the numbers must differ.
    format!("m{:04}x", SHOTS.fetch_add(1, Ordering::Relaxed))
}

/// CPU seconds of the three processes behind an order, and Redis's own counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meters {
    server_s: f64,
    redis_s: f64,
    kafka_s: f64,
    sent: f64,
    run: f64,
}

impl Meters {
    /// What they show now; `server` is left out where there is none.
    pub(super) fn read(stage: &Stage, server: Option<u32>) -> Self {
        let info = |section: &str| stage.redis.call(&["INFO", section]).text().unwrap_or_default();
        let after = |text: &str, name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name));
            let digits =
                rest.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
            digits.and_then(|digits| digits.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let commands = info("commandstats");
        let called = |name: &str| after(&commands, &format!("cmdstat_{name}:calls="));
        let run = after(&info("stats"), "total_commands_processed:");
        let scripts = called("evalsha") + called("eval");
        let seconds = |pid: Option<u32>| pid.map_or(0.0, cpu::family_seconds);
        Self {
            server_s: seconds(server),
            redis_s: seconds(stage.redis.pid()),
            kafka_s: seconds(stage.kafka.pid()),
            sent: scripts,
            run,
        }
    }

    /// Writes what was used since `before` into a row, for so many orders.
    pub(super) fn charge(self, before: Self, orders: f64, row: &mut Row) {
        let us = |now: f64, then: f64| (now - then) * 1e6 / orders;
        row.server_us = us(self.server_s, before.server_s);
        row.redis_us = us(self.redis_s, before.redis_s);
        row.kafka_us = us(self.kafka_s, before.kafka_s);
        row.redis_calls = (self.sent - before.sent) / orders;
        row.redis_commands = (self.run - before.run) / orders;
    }
}

/// One run of wrk; Redis is as it is found.
pub(super) fn shoot(
    stage: &Stage,
    actor: &Actor,
    who: &'static str,
    connections: usize,
    seconds: u64,
) -> Result<Row> {
    let before = Meters::read(stage, Some(actor.pid()));
    let run = fresh_run();
    let hits = wrk::fire(&Load { address: &actor.address, run: &run, item: "sale", connections, seconds })?;
    let after = Meters::read(stage, Some(actor.pid()));
    let orders = hits.requests.saturating_sub(hits.refused) as f64;
    let mut row = Row::empty(who, connections);
    after.charge(before, orders, &mut row);
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

/// All rounds; a row for each contestant and number of connections, in the order of the field.
pub(super) fn take_turns(stage: &Stage, field: &mut [Contestant], options: &Options) -> Result<Vec<Row>> {
    for contestant in field.iter_mut() {
        contestant.actor.wait_open()?;
        step::timed(&format!("{}: warm-up", contestant.who), || {
            shoot(stage, &contestant.actor, contestant.who, 256, WARM_UP_S)
        })?;
    }
    let mut runs: Vec<Vec<Row>> = Vec::new();
    for round in 0..options.rounds as usize {
        for turn in 0..field.len() {
            let contestant = &field[place(round, turn, field.len())];
            let once: &[usize] = if round == 0 { contestant.once } else { &[] };
            let mut all = [contestant.every_round, once].concat();
            all.sort_unstable();
            for connections in all {
                let name = format!("round {}: {}, {connections} connections", round + 1, contestant.who);
                // Everyone begins with a Redis without keys.
                stage.redis.call(&["FLUSHALL"]);
                let row = step::timed(&name, || {
                    shoot(stage, &contestant.actor, contestant.who, connections, options.seconds)
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
    let seat = |row: &Row| field.iter().position(|contestant| contestant.who == row.who);
    rows.sort_by_key(|row| (seat(row), row.connections));
    Ok(rows)
}

/// One that needs services of its own, after all others: a run for each number of connections. It takes no turns, for two
/// brokers would share the cores.
pub(super) fn alone(
    stage: &Stage,
    actor: &Actor,
    who: &'static str,
    all: &[usize],
    seconds: u64,
) -> Result<Vec<Row>> {
    step::timed(&format!("{who}: warm-up"), || shoot(stage, actor, who, 256, 2 * WARM_UP_S))?;
    let measure = |&connections: &usize| {
        stage.redis.call(&["FLUSHALL"]);
        step::timed(&format!("{who}, {connections} connections"), || {
            shoot(stage, actor, who, connections, seconds)
        })
    };
    all.iter().map(measure).collect()
}

/// Who has this turn: each round begins one further, and every other one goes backwards, so that nobody always comes
/// after the same one.
fn place(round: usize, turn: usize, contestants: usize) -> usize {
    let at = (round + turn) % contestants;
    if round % 2 == 1 { contestants - 1 - at } else { at }
}

#[cfg(test)]
mod tests {
    #[test]
    fn everyone_has_one_turn_a_round() {
        for round in 0..5 {
            let mut places: Vec<usize> = (0..4).map(|turn| super::place(round, turn, 4)).collect();
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn the_median_of_three_is_the_second() {
        assert!((super::median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < f64::EPSILON);
        assert!(super::median(std::iter::empty()).is_nan());
    }
}
