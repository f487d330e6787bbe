//! `cargo xtask drill NAME`: what the runbook tells people to do, done for real, and the transcript of it.
//!
//! A drill is a function that plays on a [`scene::Scene`]: a Redis, a Kafka, and processes of our binary, all of this run's
//! own. Whatever it does through the scene is written down with its time: the command as a reader would type it, and what
//! it said. The transcript goes to `docs/drills/<name>.md` when the drill has gone through, and nowhere when it has not.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::step::{self, Result};
use crate::workspace;
use scene::Scene;

/// Services and processes of a drill, and what is done with them.
mod scene;

/// What is written down.
mod transcript;

/// The alerts fire and clear.
mod alerts;

/// Kafka goes away and comes back.
mod breaker_outage;

/// Payments fail and are made good.
mod dlq_replay;

/// The processor dies.
mod orders_not_processing;

/// The hour before a sale.
mod prepare;

/// A limit is too tight.
mod rate_limit;

/// A key of Redis is lost.
mod redis_lost;

/// Redis is lost and restored.
mod redis_restore;

/// Everything is replaced under load.
mod rolling_deployment;

/// The stock is wrong and put right.
mod stock_correction;

/// A gateway is replaced by its successor under load.
mod zero_downtime_restart;

/// A drill; its transcript is named after it.
struct Drill {
    name: &'static str,
    /// The heading of its transcript.
    title: &'static str,
    /// What it shows, in a sentence or two; for `--help` and for the head of the transcript.
    about: &'static str,
    play: fn(&mut Scene) -> Result<()>,
}

/// All of them; one file each.
const DRILLS: &[Drill] = &[
    Drill { name: "alerts", title: "The alerts fire and clear", about: alerts::ABOUT, play: alerts::play },
    Drill {
        name: "breaker-outage",
        title: "Circuit breaker open",
        about: breaker_outage::ABOUT,
        play: breaker_outage::play,
    },
    Drill {
        name: "orders-not-processing",
        title: "Orders not processing",
        about: orders_not_processing::ABOUT,
        play: orders_not_processing::play,
    },
    Drill { name: "dlq-replay", title: "High DLQ size", about: dlq_replay::ABOUT, play: dlq_replay::play },
    Drill {
        name: "stock-correction",
        title: "Inventory mismatch",
        about: stock_correction::ABOUT,
        play: stock_correction::play,
    },
    Drill { name: "prepare", title: "The hour before a sale", about: prepare::ABOUT, play: prepare::play },
    Drill {
        name: "rate-limit",
        title: "Rate limiting too aggressive",
        about: rate_limit::ABOUT,
        play: rate_limit::play,
    },
    Drill {
        name: "redis-lost",
        title: "Redis lost its data",
        about: redis_lost::ABOUT,
        play: redis_lost::play,
    },
    Drill {
        name: "redis-restore",
        title: "Redis backup and restore",
        about: redis_restore::ABOUT,
        play: redis_restore::play,
    },
    Drill {
        name: "rolling-deployment",
        title: "Rolling deployment",
        about: rolling_deployment::ABOUT,
        play: rolling_deployment::play,
    },
    Drill {
        name: "zero-downtime-restart",
        title: "Zero-downtime restart",
        about: zero_downtime_restart::ABOUT,
        play: zero_downtime_restart::play,
    },
];

/// The command line.
pub(crate) fn command() -> Command {
    let out = Arg::new("out")
        .long("out")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Where the transcript goes; by default docs/drills");
    let drill = |drill: &Drill| Command::new(drill.name).about(drill.about).arg(out.clone());
    Command::new("drill")
        .about("Try a procedure of the runbook for real and keep the transcript under docs/drills/")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(DRILLS.iter().map(drill))
}

/// Plays one of them.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    let Some((name, args)) = args.subcommand() else { unreachable!("clap requires a subcommand") };
    let drill = DRILLS.iter().find(|drill| drill.name == name).expect("clap knows the drills only");
    let mut scene = Scene::set(drill.title, drill.about)?;
    step::timed(name, || (drill.play)(&mut scene))?;
    let dir = args.get_one::<PathBuf>("out").cloned();
    let dir = dir.unwrap_or_else(|| workspace::root().join("docs/drills"));
    scene.transcript().write(&dir.join(format!("{name}.md")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }
}
