//! Settings as flags: one flag for each variable of the table, under the same name.
//!
//! Values stay text here. `settings` checks them together with the environment, so that all bad ones are named in one
//! run.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use settings::BadSettings;
use settings::read::Reader;
use settings::table::{self, Role, Setting};

/// A setting was refused (contract, "Processes"; `EX_USAGE` of sysexits.h).
pub(crate) const USAGE: u8 = 64;
/// Something could not be started or done.
pub(crate) const FAILED: u8 = 1;

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("flash-sale")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Order intake that survives the first second of a sale")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Every setting is an environment variable as well, by the name shown in brackets; flags win.\n\n\
             Examples:\n  \
             flash-sale demo                         a whole sale in this process, with a verdict\n  \
             flash-sale serve                        gateway and processor, to be tried with curl\n  \
             flash-sale gateway --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092",
        )
        .subcommand(
            with_settings(Command::new("gateway").about("HTTP intake: POST /buy, answered when Kafka has the order"), &[
                Role::Gateway,
            ])
            .after_help(
                "Examples:\n  \
                 flash-sale gateway --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
                 RATE_LIMIT_MAX_REQUESTS=120 flash-sale gateway --listen-addr 127.0.0.1:8080\n\n\
                 Exit codes: 0 stopped clean, 1 could not start or orders were left on the road, 64 a setting was refused.",
            ),
        )
        .subcommand(
            with_settings(Command::new("processor").about("Consumer: turns each acknowledged order into one end"), &[
                Role::Processor,
            ])
            .after_help(
                "Examples:\n  \
                 flash-sale processor --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
                 PAYMENT_FAILURE_RATE=0 flash-sale processor --metrics-addr 127.0.0.1:9090\n\n\
                 Exit codes: 0 stopped clean, 1 could not start or orders were left to the next owner, 64 a setting was \
                 refused.",
            ),
        )
        .subcommand(
            with_settings(
                Command::new("serve")
                    .about("Gateway and processor in one process, embedded unless addresses are given: for curl")
                    .args([
                        Arg::new("item").long("item").value_name("ID").default_value("101").help("Item put on sale"),
                        Arg::new("stock")
                            .long("stock")
                            .value_name("N")
                            .default_value("100")
                            .value_parser(clap::value_parser!(u64))
                            .help("Units of it, in the embedded store"),
                    ]),
                &[Role::Gateway, Role::Processor],
            )
            .after_help("Example:\n  flash-sale serve --listen-addr 127.0.0.1:8080"),
        )
        .subcommand(
            with_settings(
                crate::demo_command::flags(
                    Command::new("demo").about("A whole flash sale in this process: load, live view, verdict, report"),
                ),
                &[Role::Gateway, Role::Processor],
            )
            .after_help(
                "Examples:\n  \
                 flash-sale demo\n  \
                 flash-sale demo --buyers 20000 --stock 500 --html report.html\n  \
                 flash-sale demo --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n\n\
                 Exit codes: 0 every check held, 1 could not run or write a report, 3 threshold broken, 4 ledger violated, \
                 5 generator saturated, 64 a setting was refused, 130 interrupted.",
            ),
        )
        .subcommand(crate::loadgen_command::command())
        .subcommand(crate::stock_command::command())
        .subcommand(crate::prepare_command::command())
        .subcommand(crate::dlq_command::command())
        .subcommand(crate::health_command::command())
        .subcommand(crate::completions_command::command())
        .subcommand(crate::completions_command::man_command())
}

/// Adds the flags of every setting that one of `roles` reads.
pub(crate) fn with_settings(command: Command, roles: &[Role]) -> Command {
    let is_read = |setting: &&Setting| setting.role == Role::Both || roles.contains(&setting.role);
    command.args(table::ALL.iter().filter(is_read).map(flag))
}

/// The flag of one setting.
pub(crate) fn flag(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    Arg::new(setting.name)
        .long(setting.flag())
        .value_name("VALUE")
        .help(format!("{}{default} [env: {}]", setting.help, setting.name))
        .long_help(format!("{}\n{}{default}\n[env: {}]", setting.help, setting.kind, setting.name))
}

/// What was given as flags.
pub(crate) fn given(flags: &ArgMatches) -> HashMap<&'static str, String> {
    let value = |setting: &Setting| {
        let value = flags.try_get_one::<String>(setting.name).ok().flatten()?;
        Some((setting.name, value.clone()))
    };
    table::ALL.iter().filter_map(value).collect()
}

/// The environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads settings with `read`; all bad ones are told at once.
pub(crate) fn read_settings<T>(
    flags: &ArgMatches,
    defaults: &[(&Setting, &str)],
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<(T, Vec<String>), ExitCode> {
    let mut reader = Reader::new(given(flags), &environment);
    for (setting, default) in defaults {
        reader = reader.with_default(setting, default);
    }
    let settings = read(&mut reader);
    match reader.finish() {
        Ok(()) => Ok((settings, reader.notices().to_vec())),
        Err(BadSettings(lines)) => {
            for line in lines {
                eprintln!("flash-sale: {line}");
            }
            Err(ExitCode::from(USAGE))
        }
    }
}

/// The settings that every role reads, for a tool on somebody else's Redis and Kafka.
pub(crate) fn on_servers(flags: &ArgMatches) -> Result<settings::Shared, ExitCode> {
    let (shared, _) = read_settings(flags, &[], |reader| reader.shared())?;
    if shared.redis == settings::RedisAddress::Embedded || shared.kafka == settings::KafkaAddress::Embedded {
        return Err(failed(
            "an embedded store or broker lives inside another process; give REDIS_ADDR and KAFKA_ADDR",
        ));
    }
    Ok(shared)
}

/// Says why something could not be done, and the code for it.
pub(crate) fn failed(reason: impl std::fmt::Display) -> ExitCode {
    eprintln!("flash-sale: {reason}");
    ExitCode::from(FAILED)
}
