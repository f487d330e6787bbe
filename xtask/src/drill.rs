//! `cargo xtask drill NAME`: executes a procedure of the runbook on real services and writes a transcript.
//!
//! A drill is a function that uses a [`context::DrillContext`]: a private Redis and Kafka, gateway and processor processes.
//! Every action through the context is recorded with its time: the command as a reader would type it, and its output. The
//! transcript is written to `docs/drills/<name>.md` if the drill succeeds; a failed drill writes none.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::step::{self, Result};
use crate::workspace;
use context::DrillContext;

/// Services and processes of a drill, and the actions on them.
mod context;

/// The recorded page.
mod transcript;

/// Alerts fire and clear.
mod alerts;

/// Kafka stops responding and recovers.
mod breaker_outage;

/// Payments fail, and their orders are replayed.
mod dlq_replay;

/// The processor is killed.
mod orders_not_processing;

/// The hour before a sale.
mod prepare;

/// The rate limit is too low.
mod rate_limit;

/// Keys of an item are lost in Redis.
mod redis_lost;

/// Redis loses its data and is restored.
mod redis_restore;

/// All gateways and processors are replaced under load.
mod rolling_deployment;

/// A wrong stock level is corrected.
mod stock_correction;

/// A gateway hands over to its successor under load.
mod zero_downtime_restart;

/// A drill. Its name is also the file name of the transcript.
struct Drill {
    name: &'static str,
    /// The heading of its transcript.
    title: &'static str,
    /// Summary in one or two sentences, for `--help` and for the head of the transcript.
    about: &'static str,
    run: fn(&mut DrillContext) -> Result<()>,
}

/// All drills; each has its own file.
const DRILLS: &[Drill] = &[
    Drill { name: "alerts", title: "Alerts fire and clear", about: alerts::ABOUT, run: alerts::run },
    Drill {
        name: "breaker-outage",
        title: "Circuit breaker open",
        about: breaker_outage::ABOUT,
        run: breaker_outage::run,
    },
    Drill {
        name: "orders-not-processing",
        title: "Orders not processing",
        about: orders_not_processing::ABOUT,
        run: orders_not_processing::run,
    },
    Drill { name: "dlq-replay", title: "High DLQ size", about: dlq_replay::ABOUT, run: dlq_replay::run },
    Drill {
        name: "stock-correction",
        title: "Inventory mismatch",
        about: stock_correction::ABOUT,
        run: stock_correction::run,
    },
    Drill { name: "prepare", title: "The hour before a sale", about: prepare::ABOUT, run: prepare::run },
    Drill {
        name: "rate-limit",
        title: "Rate limiting too aggressive",
        about: rate_limit::ABOUT,
        run: rate_limit::run,
    },
    Drill {
        name: "redis-lost",
        title: "Redis lost its data",
        about: redis_lost::ABOUT,
        run: redis_lost::run,
    },
    Drill {
        name: "redis-restore",
        title: "Redis backup and restore",
        about: redis_restore::ABOUT,
        run: redis_restore::run,
    },
    Drill {
        name: "rolling-deployment",
        title: "Rolling deployment",
        about: rolling_deployment::ABOUT,
        run: rolling_deployment::run,
    },
    Drill {
        name: "zero-downtime-restart",
        title: "Zero-downtime restart",
        about: zero_downtime_restart::ABOUT,
        run: zero_downtime_restart::run,
    },
];

/// The command line.
pub(crate) fn command() -> Command {
    let out = Arg::new("out")
        .long("out")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Folder for the transcript (default: docs/drills)");
    let drill = |drill: &Drill| Command::new(drill.name).about(drill.about).arg(out.clone());
    Command::new("drill")
        .about("Execute a procedure of the runbook on real services and write a transcript to docs/drills/")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(DRILLS.iter().map(drill))
}

/// Runs one drill.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    let Some((name, args)) = args.subcommand() else { unreachable!("clap requires a subcommand") };
    let drill = DRILLS.iter().find(|drill| drill.name == name).expect("clap accepts only these drills");
    let mut context = DrillContext::set(drill.title, drill.about)?;
    step::timed(name, || (drill.run)(&mut context))?;
    let dir = args.get_one::<PathBuf>("out").cloned();
    let dir = dir.unwrap_or_else(|| workspace::root().join("docs/drills"));
    context.transcript().write(&dir.join(format!("{name}.md")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }
}
