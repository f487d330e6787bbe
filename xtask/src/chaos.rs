//! `cargo xtask chaos`: injects faults under load and audits every order.
//!
//! Each fault runs in a separate test environment ([`world::World`]): a private Redis and Kafka, a gateway, two processors.
//! The load generator sends orders at a constant rate; meanwhile the fault is repeatedly injected and healed at times that
//! follow from the seed, and probes measure how long it takes until an order is accepted again. Afterwards every order is
//! checked by the load generator's audit and by the invariants in [`judge`]. A run of all faults at full size writes
//! `docs/faults.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::perf::stage::{Stage, flash_sale_binary};
use crate::services::Programs;
use crate::step::{self, Result};
use crate::workspace;
use fault::Fault;
use run::{Outcome, Size};

/// Definition of a fault.
mod fault;

/// Faults of gateway and processors.
mod processes;

/// Faults of Redis.
mod redis;

/// Faults of Kafka.
mod kafka;

/// Faults of connections.
mod network;

/// Faults of the machine.
mod host;

/// Small disks that a fault can fill.
mod disk;

/// The test environment that a fault needs.
mod setup;

/// Services and processes under test.
mod world;

/// The load generator as a child process.
mod load;

/// Single orders that measure the recovery time.
mod probe;

/// Runs one fault from start to verdict.
mod run;

/// Checks which invariants hold.
mod judge;

/// `docs/faults.md`.
mod page;

/// Orders per fault at full size.
const ORDERS: &str = "100000";
/// Injections per fault at full size.
const TIMES: &str = "10";

/// All faults, in the order of the page.
fn faults() -> impl Iterator<Item = &'static Fault> {
    [processes::FAULTS, redis::FAULTS, kafka::FAULTS, network::FAULTS, host::FAULTS].into_iter().flatten()
}

/// The command line.
pub(crate) fn command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64))
            .help(help)
    };
    Command::new("chaos")
        .about("Inject faults into Redis, Kafka, gateway, processors, network and machine under load, and audit every order")
        .args([
            Arg::new("fault")
                .long("fault")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("Only this fault; may be given several times (default: all)"),
            number("seed", "1", "Random seed for fault times, durations and orders"),
            number("orders", ORDERS, "Orders per fault"),
            number("times", TIMES, "Injections per fault"),
            number("recovery-slack", "1", "Multiply the recovery limits, for debug builds and busy machines"),
            Arg::new("list").long("list").action(ArgAction::SetTrue).help("Only list the faults"),
            Arg::new("binary")
                .long("binary")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The flash-sale to test (default: a release build of this tree)"),
            Arg::new("keep-logs")
                .long("keep-logs")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Copy the logs of all processes to DIR/<fault>"),
        ])
        .after_help(
            "Examples:\n  \
             cargo xtask chaos                                       all faults; writes docs/faults.md\n  \
             cargo xtask chaos --fault redis-stopped --seed 7\n  \
             cargo xtask chaos --fault kafka-killed --orders 5000 --times 2\n\n\
             Only a run of all faults with at least 100,000 orders and 10 injections each writes docs/faults.md.\n\
             Exit code: 0 no violation, 1 violations found or a fault could not be run, 130 interrupted.",
        )
}

/// Runs the faults.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    if args.get_flag("list") {
        for fault in faults() {
            println!("{:<28} {}", fault.name, fault.about);
        }
        return Ok(());
    }
    let names: Vec<&String> = args.get_many::<String>("fault").unwrap_or_default().collect();
    if let Some(unknown) = names.iter().find(|name| !faults().any(|fault| fault.name == ***name)) {
        return Err(format!("no fault is named {unknown:?}; `cargo xtask chaos --list` lists them").into());
    }
    let number = |name: &str| args.get_one::<u64>(name).copied().unwrap_or_default();
    let size = Size {
        seed: number("seed"),
        orders: number("orders").max(1),
        times: number("times").max(1),
        recovery_slack: number("recovery-slack").max(1),
    };
    let binary = if let Some(binary) = args.get_one::<PathBuf>("binary") {
        binary.clone()
    } else {
        Stage::build("flash-sale")?;
        flash_sale_binary()
    };
    // Recorded before the run, because the working tree may change meanwhile.
    let commit = crate::perf::record::commit();
    let programs = Programs::obtain()?;
    let chosen = || faults().filter(|fault| names.is_empty() || names.iter().any(|name| *name == fault.name));
    let all = chosen().count();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut not_run = Vec::new();
    for (index, fault) in chosen().enumerate() {
        let name = format!("fault {} of {all}: {}", index + 1, fault.name);
        let logs = args.get_one::<PathBuf>("keep-logs").map(|dir| dir.join(fault.name));
        let work = || {
            // `testkit` panics when a service does not start again; the other faults still run.
            let run = AssertUnwindSafe(|| run::run(fault, size, &programs, &binary, logs.as_deref()));
            catch_unwind(run).unwrap_or_else(|_| {
                Err("a service could not be controlled, see the panic message above".into())
            })
        };
        match step::timed(&name, work) {
            Ok(outcome) => {
                outcome.say();
                outcomes.push(outcome);
            }
            Err(step::Failure::Interrupted) => return Err(step::Failure::Interrupted),
            Err(step::Failure::Failed(reason)) => {
                step::say(format_args!("{}: could not be run: {reason}", fault.name));
                not_run.push(fault.name);
            }
        }
    }
    let full = [ORDERS, TIMES].map(|text| text.parse::<u64>().expect("a number"));
    let is_full =
        names.is_empty() && size.orders >= full[0] && size.times >= full[1] && size.recovery_slack == 1;
    let is_full = is_full && not_run.is_empty();
    print!("{}", page::summary(&outcomes));
    if is_full {
        let path = workspace::root().join("docs/faults.md");
        std::fs::write(&path, page::page(&outcomes, size, &commit))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let violated =
        outcomes.iter().filter(|outcome| outcome.violations() > 0).map(|outcome| outcome.fault.name);
    let failed: Vec<&str> = violated.chain(not_run).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("chaos: {}", failed.join(", ")).into()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }

    #[test]
    fn no_two_faults_share_a_name() {
        let names: Vec<&str> = super::faults().map(|fault| fault.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn every_excused_equation_exists() {
        for fault in super::faults() {
            for (equation, _) in fault.excused {
                assert!(
                    super::judge::EQUATIONS.iter().any(|(name, _)| name == equation),
                    "{}: {equation}",
                    fault.name
                );
            }
        }
    }
}
