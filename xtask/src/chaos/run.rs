//! Runs one fault from start to verdict.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chaos::fault::{Dice, Fault};
use crate::chaos::judge::{self, Judged, Verdict};
use crate::chaos::load::{Load, Sending};
use crate::chaos::probe::Probes;
use crate::chaos::world::World;
use crate::services::Programs;
use crate::step::{self, Result};

/// Shortest and longest normal operation before each injection, in milliseconds.
const GAP_MS: (u64, u64) = (200, 800);
/// After this time without a 202 the gateway is restarted, as an operator would do, and the run continues.
const RESTART_AFTER: Duration = Duration::from_secs(15);
/// Time limit of the contract for a process to exit after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// The load lasts longer than the planned injections by this factor, so that a slow recovery is still under load.
const MARGIN: f64 = 1.15;
/// Maximum rate of the load, in orders per second: what two cores can process while also running all services.
const RATE_MAX: u64 = 5000;

/// Size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    pub(crate) orders: u64,
    pub(crate) times: u64,
    /// Factor for the recovery limits.
    pub(crate) recovery_slack: u64,
}

/// Result of a fault.
pub(crate) struct Outcome {
    pub(crate) fault: &'static Fault,
    pub(crate) size: Size,
    /// Milliseconds since the first order.
    pub(crate) injected_at_ms: Vec<u64>,
    /// From the repair to the first 202, in milliseconds, sorted.
    pub(crate) recoveries_ms: Vec<u64>,
    /// Requests of the load by outcome.
    pub(crate) responses: Vec<(String, u64)>,
    /// From the last response to the last final status, in milliseconds.
    pub(crate) drain_ms: u64,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Violations that the fault does not excuse; an invariant that could not be checked counts as one.
    pub(crate) fn violations(&self) -> u64 {
        judge::violations(self.fault, &self.verdict).map(|(_, judged)| judged.count.unwrap_or(1)).sum()
    }

    /// Prints the result and, if there are violations, the command that reproduces it.
    pub(crate) fn say(&self) {
        let recovered = self.recoveries_ms.last().map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        step::say(format_args!(
            "{}: {} violations, {} injections, longest recovery {recovered}, {:.0} s",
            self.fault.name,
            self.violations(),
            self.injected_at_ms.len(),
            self.took.as_secs_f64()
        ));
        for (name, Judged { count, detail }) in judge::violations(self.fault, &self.verdict) {
            let count = count.map_or_else(|| "not checked".to_owned(), |count| count.to_string());
            step::say(format_args!("  {name}: {count}; {detail}"));
        }
        if self.violations() > 0 {
            step::say(format_args!(
                "  injected at {:?} ms; to reproduce: {}",
                self.injected_at_ms,
                self.command()
            ));
        }
    }

    /// The command that reproduces it.
    pub(crate) fn command(&self) -> String {
        let Size { seed, orders, times, .. } = self.size;
        format!(
            "cargo xtask chaos --fault {} --seed {seed} --orders {orders} --times {times}",
            self.fault.name
        )
    }
}

/// Injections and recoveries while the load ran.
#[derive(Default)]
struct Timeline {
    injected_unix_ms: Vec<u64>,
    recoveries_ms: Vec<u64>,
    /// Descriptions of recoveries over the limit.
    late: Vec<String>,
}

/// Runs the fault. An error means that xtask or a service failed, not that the product violated an invariant.
pub(crate) fn run(
    fault: &'static Fault,
    size: Size,
    programs: &Programs,
    binary: &Path,
    logs: Option<&Path>,
) -> Result<Outcome> {
    let begun = Instant::now();
    // By Zipf's law the hottest of ten items gets a third of the orders: it sells out, the others do not.
    let mut world = World::start(&fault.setup, programs, binary, size.orders / 4 + 10)?;
    let rate = rate(fault, size);
    let run_id = format!("chaos{}", size.seed);
    let sending = Sending {
        run_id: &run_id,
        seed: size.seed,
        orders: size.orders,
        rate,
        requests_per_connection: fault.setup.requests_per_connection,
        is_lossy: fault.excused.iter().any(|(name, _)| *name == "every_202_ends_once"),
    };
    let probes = Probes::begin(&world.gateway.address, &run_id);
    // After this the topics have leaders, and the load generator can read their end offsets.
    await_recovery(&mut world, &probes, Instant::now())?
        .ok_or("no order is accepted although nothing is broken")?;
    let mut load = Load::start(&world, &sending)?;
    load.wait_started(&world, &run_id)?;
    step::say(format_args!("{} orders at {rate}/s, {} injections", size.orders, size.times));
    let timeline = drive(fault, size, &mut world, &probes)?;
    while !load.is_over() {
        world.supervise()?;
        step::pause()?;
    }
    let accepted = probes.end();
    let report = load.report()?;
    let mut verdict = judge::of_report(&report);
    judge::probes(&world, &accepted, &mut verdict);
    judge::lost(&world, &report, &mut verdict);
    finish(&mut world, &timeline, &mut verdict);
    let started_ms = report["merge"]["start_unix_ms"].as_u64().unwrap_or_default();
    let injected_at_ms: Vec<u64> =
        timeline.injected_unix_ms.iter().map(|at_ms| at_ms.saturating_sub(started_ms)).collect();
    let sent_ms = (report["duration_s"].as_f64().unwrap_or_default() * 1000.0) as u64;
    let idle = injected_at_ms.iter().filter(|&&at_ms| at_ms == 0 || at_ms > sent_ms).count() as u64;
    judge::note(
        &mut verdict,
        "every_fault_was_under_load",
        idle,
        format!("orders were sent for {sent_ms} ms"),
    );
    if let Some(dir) = logs {
        world.keep_logs(dir)?;
    }
    let mut recoveries_ms = timeline.recoveries_ms;
    recoveries_ms.sort_unstable();
    Ok(Outcome {
        fault,
        size,
        injected_at_ms,
        recoveries_ms,
        responses: judge::outcomes(&report),
        drain_ms: report["ledger"]["drain_ms"].as_u64().unwrap_or_default(),
        verdict,
        took: begun.elapsed(),
    })
}

/// The rate at which the load lasts as long as all injections.
fn rate(fault: &Fault, size: Size) -> u64 {
    let gap = u64::midpoint(GAP_MS.0, GAP_MS.1);
    let each = gap + fault.mean_ms(size.times) + fault.overhead_ms + fault.recovery_ms_max / 4;
    let planned_s = (size.times * each) as f64 / 1000.0 * MARGIN + 1.0;
    ((size.orders as f64 / planned_s) as u64).clamp(50, RATE_MAX)
}

/// Injects and heals the fault [`Size::times`] times.
fn drive(fault: &Fault, size: Size, world: &mut World, probes: &Probes) -> Result<Timeline> {
    let mut dice = Dice::new(size.seed, fault.name);
    let mut timeline = Timeline::default();
    for index in 0..size.times {
        idle(world, Duration::from_millis(dice.between(GAP_MS.0, GAP_MS.1)))?;
        timeline.injected_unix_ms.push(unix_ms());
        let lasts = Duration::from_millis(fault.lasts_ms(index, &mut dice));
        (fault.inject)(world, &mut dice)?;
        idle(world, lasts)?;
        (fault.heal)(world)?;
        let healed = world.serving_since();
        let mut recovered = await_recovery(world, probes, healed)?;
        if recovered.is_none() {
            timeline.late.push(format!(
                "injection {}: no 202 within {} s",
                index + 1,
                RESTART_AFTER.as_secs()
            ));
            world.gateway.kill();
            world.gateway.start()?;
            recovered = await_recovery(world, probes, Instant::now())?;
            recovered.ok_or("even a restarted gateway accepts no order")?;
            timeline.recoveries_ms.push(RESTART_AFTER.as_millis() as u64);
            continue;
        }
        let took_ms = recovered.map_or(0, |at| at.saturating_duration_since(healed).as_millis() as u64);
        if took_ms > fault.recovery_ms_max * size.recovery_slack {
            timeline.late.push(format!("injection {}: {took_ms} ms", index + 1));
        }
        timeline.recoveries_ms.push(took_ms);
    }
    Ok(timeline)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Waits, and meanwhile restarts processes that exit.
fn idle(world: &mut World, duration: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(10).min(duration.saturating_sub(begun.elapsed())));
        step::check_interrupt()?;
        world.supervise()?;
    }
    Ok(())
}

fn await_recovery(world: &mut World, probes: &Probes, from: Instant) -> Result<Option<Instant>> {
    while from.elapsed() < RESTART_AFTER {
        if let Some(at) = probes.accepted_after(from) {
            return Ok(Some(at));
        }
        idle(world, Duration::from_millis(10))?;
    }
    Ok(None)
}

/// Checks the invariants about processes, and stops the processes.
fn finish(world: &mut World, timeline: &Timeline, verdict: &mut Verdict) {
    judge::note(verdict, "recovers_in_time", timeline.late.len() as u64, timeline.late.join("; "));
    judge::note(verdict, "no_process_ends_by_itself", world.exits.len() as u64, world.exits.join("; "));
    let mut unhealthy = Vec::new();
    let mut stuck = Vec::new();
    for service in world.services() {
        if let Err(step::Failure::Failed(reason)) = service.wait_healthy() {
            unhealthy.push(reason);
        }
    }
    for service in world.services() {
        let how = service.terminate(STOP_LIMIT);
        if how.as_deref() != Some("exit code 0") {
            let how = how.unwrap_or_else(|| format!("still running after {STOP_LIMIT:?}"));
            stuck.push(format!("{}: {how}", service.name));
        }
    }
    judge::note(verdict, "healthy_at_the_end", unhealthy.len() as u64, unhealthy.join("; "));
    judge::note(verdict, "stops_on_sigterm", stuck.len() as u64, stuck.join("; "));
}
