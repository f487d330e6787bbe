//! Settings as flags: one flag for each variable of the table, under the same name.
//!
//! Values stay text here. `settings` checks them together with the environment, so that one run reports all invalid
//! values.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use settings::BadSettings;
use settings::read::Reader;
use settings::table::{self, Role, Setting};

/// A setting is invalid (contract, "Processes"; `EX_USAGE` of sysexits.h).
pub(crate) const USAGE: u8 = 64;
/// A start or an operation failed.
pub(crate) const FAILED: u8 = 1;

/// Adds the flags of every setting that one of `roles` reads.
pub(crate) fn with_settings(command: Command, roles: &[Role]) -> Command {
    let is_read = |setting: &&Setting| setting.role == Role::Both || roles.contains(&setting.role);
    command.args(table::ALL.iter().filter(is_read).map(flag))
}

/// The flag of a setting.
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

/// The settings given as flags.
pub(crate) fn given_flags(flags: &ArgMatches) -> HashMap<&'static str, String> {
    let value = |setting: &Setting| {
        let value = flags.try_get_one::<String>(setting.name).ok().flatten()?;
        Some((setting.name, value.clone()))
    };
    table::ALL.iter().filter_map(value).collect()
}

/// The value of an environment variable.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads settings with `read`; prints all invalid ones at once.
pub(crate) fn read_settings<T>(
    flags: &ArgMatches,
    defaults: &[(&Setting, &str)],
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<(T, Vec<String>), ExitCode> {
    let mut reader = Reader::new(given_flags(flags), &environment);
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

/// The settings that every role reads, for a tool that works on the Redis and Kafka of running services.
pub(crate) fn server_settings(flags: &ArgMatches) -> Result<settings::Shared, ExitCode> {
    let (shared, _) = read_settings(flags, &[], |reader| reader.shared())?;
    if shared.redis == settings::RedisAddress::Embedded || shared.kafka == settings::KafkaAddress::Embedded {
        return Err(failed(
            "an embedded store or broker cannot be reached from another process; set REDIS_ADDR and KAFKA_ADDR",
        ));
    }
    Ok(shared)
}

/// Prints why an operation failed and returns the exit code [`FAILED`].
pub(crate) fn failed(reason: impl std::fmt::Display) -> ExitCode {
    eprintln!("flash-sale: {reason}");
    ExitCode::from(FAILED)
}
