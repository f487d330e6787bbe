//! One fault from start to verdict.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chaos::fault::{Dice, Fault};
use crate::chaos::judge::{self, Judged, Verdict};
use crate::chaos::load::{Load, Sending};
use crate::chaos::probe::Probes;
use crate::chaos::world::World;
use crate::services::Programs;
use crate::step::{self, Result};

/// Normal operation before each injection, milliseconds.
const GAP_MS: (u64, u64) = (200, 800);
/// After so long without a 202 the gateway is restarted, as an operator would, and the run goes on.
const GIVE_UP: Duration = Duration::from_secs(15);
/// The promise of the contract for a process that is told to end.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// The load outlasts the injections by this share, so that a slow recovery is still under load.
const MARGIN: f64 = 1.15;
/// The load is never faster, orders a second: what two cores carry together with everything else here.
const RATE_MAX: u64 = 5000;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    pub(crate) orders: u64,
    pub(crate) times: u64,
    /// Factor of the limits of recovery.
    pub(crate) recovery_slack: u64,
}

/// What came out of a fault.
pub(crate) struct Outcome {
    pub(crate) fault: &'static Fault,
    pub(crate) size: Size,
    /// Since the first order, milliseconds.
    pub(crate) injected_at_ms: Vec<u64>,
    /// From the repair to the first 202, milliseconds, sorted.
    pub(crate) recoveries_ms: Vec<u64>,
    /// Requests of the load by outcome.
    pub(crate) answers: Vec<(String, u64)>,
    /// From the last answer to the last final status, milliseconds.
    pub(crate) drain_ms: u64,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Violations that the fault does not excuse; an equation that could not be judged counts as one.
    pub(crate) fn violations(&self) -> u64 {
        judge::violations(self.fault, &self.verdict).map(|(_, judged)| judged.count.unwrap_or(1)).sum()
    }

    /// Tells the result and what repeats it.
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
            let count = count.map_or_else(|| "not judged".to_owned(), |count| count.to_string());
            step::say(format_args!("  {name}: {count}; {detail}"));
        }
        if self.violations() > 0 {
            step::say(format_args!("  injected at {:?} ms; repeat: {}", self.injected_at_ms, self.command()));
        }
    }

    /// What repeats it.
    pub(crate) fn command(&self) -> String {
        let Size { seed, orders, times, .. } = self.size;
        format!(
            "cargo xtask chaos --fault {} --seed {seed} --orders {orders} --times {times}",
            self.fault.name
        )
    }
}

/// What happened while the load ran.
#[derive(Default)]
struct Course {
    injected_unix_ms: Vec<u64>,
    recoveries_ms: Vec<u64>,
    /// Recoveries over the limit, in words.
    late: Vec<String>,
}

/// Runs it. An error is a fault of the tool or of a service that does not start, not of the product.
pub(crate) fn run(
    fault: &'static Fault,
    size: Size,
    programs: &Programs,
    binary: &Path,
    logs: Option<&Path>,
) -> Result<Outcome> {
    let begun = Instant::now();
    // The hottest of ten items by Zipf's law gets a third of the orders: it sells out, the others do not.
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
    // Then the topics have their leaders, and the load generator can note where they end.
    await_recovery(&mut world, &probes, Instant::now())?
        .ok_or("no order is accepted although nothing is broken")?;
    let mut load = Load::start(&world, &sending)?;
    load.wait_begun(&world, &run_id)?;
    step::say(format_args!("{} orders at {rate}/s, {} injections", size.orders, size.times));
    let course = drive(fault, size, &mut world, &probes)?;
    while !load.is_over() {
        world.supervise()?;
        step::pause()?;
    }
    let accepted = probes.end();
    let report = load.report()?;
    let mut verdict = judge::of_report(&report);
    judge::probes(&world, &accepted, &mut verdict);
    judge::lost(&world, &report, &mut verdict);
    finish(&mut world, &course, &mut verdict);
    let started_ms = report["merge"]["start_unix_ms"].as_u64().unwrap_or_default();
    let injected_at_ms: Vec<u64> =
        course.injected_unix_ms.iter().map(|at_ms| at_ms.saturating_sub(started_ms)).collect();
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
    let mut recoveries_ms = course.recoveries_ms;
    recoveries_ms.sort_unstable();
    Ok(Outcome {
        fault,
        size,
        injected_at_ms,
        recoveries_ms,
        answers: judge::outcomes(&report),
        drain_ms: report["ledger"]["drain_ms"].as_u64().unwrap_or_default(),
        verdict,
        took: begun.elapsed(),
    })
}

/// So that the load lasts as long as all injections.
fn rate(fault: &Fault, size: Size) -> u64 {
    let gap = u64::midpoint(GAP_MS.0, GAP_MS.1);
    let each = gap + fault.mean_ms(size.times) + fault.overhead_ms + fault.recovery_ms_max / 4;
    let planned_s = (size.times * each) as f64 / 1000.0 * MARGIN + 1.0;
    ((size.orders as f64 / planned_s) as u64).clamp(50, RATE_MAX)
}

/// Injects and heals, again and again.
fn drive(fault: &Fault, size: Size, world: &mut World, probes: &Probes) -> Result<Course> {
    let mut dice = Dice::new(size.seed, fault.name);
    let mut course = Course::default();
    for index in 0..size.times {
        idle(world, Duration::from_millis(dice.between(GAP_MS.0, GAP_MS.1)))?;
        course.injected_unix_ms.push(unix_ms());
        let lasts = Duration::from_millis(fault.lasts_ms(index, &mut dice));
        (fault.inject)(world, &mut dice)?;
        idle(world, lasts)?;
        (fault.heal)(world)?;
        let healed = world.serving_since();
        let mut recovered = await_recovery(world, probes, healed)?;
        if recovered.is_none() {
            course.late.push(format!("injection {}: none within {} s", index + 1, GIVE_UP.as_secs()));
            world.gateway.kill();
            world.gateway.start()?;
            recovered = await_recovery(world, probes, Instant::now())?;
            recovered.ok_or("no order is accepted even by a restarted gateway")?;
            course.recoveries_ms.push(GIVE_UP.as_millis() as u64);
            continue;
        }
        let took_ms = recovered.map_or(0, |at| at.saturating_duration_since(healed).as_millis() as u64);
        if took_ms > fault.recovery_ms_max * size.recovery_slack {
            course.late.push(format!("injection {}: {took_ms} ms", index + 1));
        }
        course.recoveries_ms.push(took_ms);
    }
    Ok(course)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Lets time pass, with an eye on the processes.
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
    while from.elapsed() < GIVE_UP {
        if let Some(at) = probes.accepted_after(from) {
            return Ok(Some(at));
        }
        idle(world, Duration::from_millis(10))?;
    }
    Ok(None)
}

/// The equations about processes; ends them.
fn finish(world: &mut World, course: &Course, verdict: &mut Verdict) {
    judge::note(verdict, "recovers_in_time", course.late.len() as u64, course.late.join("; "));
    judge::note(verdict, "no_process_ends_by_itself", world.exits.len() as u64, world.exits.join("; "));
    let mut ill = Vec::new();
    let mut stuck = Vec::new();
    for service in world.services() {
        if let Err(step::Failure::Failed(reason)) = service.wait_healthy() {
            ill.push(reason);
        }
    }
    for service in world.services() {
        let how = service.terminate(STOP_LIMIT);
        if how.as_deref() != Some("exit code 0") {
            let how = how.unwrap_or_else(|| format!("not ended after {STOP_LIMIT:?}"));
            stuck.push(format!("{}: {how}", service.name));
        }
    }
    judge::note(verdict, "healthy_at_the_end", ill.len() as u64, ill.join("; "));
    judge::note(verdict, "stops_on_sigterm", stuck.len() as u64, stuck.join("; "));
}
