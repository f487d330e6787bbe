//! `flash-sale`: one binary with a subcommand for each part (contract, "Processes"). It contains no business logic: a
//! subcommand reads its settings, starts services from the library crates and waits for a signal.

/// The whole command line.
mod command_line;

/// Settings as command-line flags, and exit codes.
mod flags;

/// Handles the first, second and third SIGTERM or SIGINT, and runs the shutdown watchdog.
mod signals;

/// Makes librdkafka's timed waits use the monotonic clock.
mod monotonic_waits;

/// systemd socket activation and service notifications.
mod systemd;

/// The store and the broker: embedded in this process, or Redis and Kafka at an address.
mod backends;

/// `flash-sale gateway`
mod gateway_command;

/// `flash-sale processor`
mod processor_command;

/// Gateway and processor in one process.
mod services;

/// `flash-sale serve`
mod serve_command;

/// `flash-sale demo`
mod demo_command;

/// `flash-sale loadgen`
mod loadgen_command;

/// `flash-sale loadgen audit`
mod audit_command;

/// `flash-sale loadgen merge`
mod merge_command;

/// `flash-sale loadgen compare`
mod compare_command;

/// Flags and files of reports.
mod report_files;

/// `flash-sale stock`
mod stock_command;

/// `flash-sale prepare`
mod prepare_command;

/// `flash-sale dlq`
mod dlq_command;

/// `flash-sale health`
mod health_command;

/// `flash-sale completions` and `flash-sale man`
mod completions_command;

/// Test: the command line accepts every command that the documentation and `--help` show.
#[cfg(test)]
mod documented_commands;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = command_line::command().get_matches();
    match matches.subcommand() {
        Some(("gateway", flags)) => gateway_command::run(flags),
        Some(("processor", flags)) => processor_command::run(flags),
        Some(("serve", flags)) => serve_command::run(flags),
        Some(("demo", flags)) => demo_command::run(flags),
        Some(("loadgen", flags)) => loadgen_command::run(flags),
        Some(("stock", flags)) => stock_command::run(flags),
        Some(("prepare", flags)) => prepare_command::run(flags),
        Some(("dlq", flags)) => dlq_command::run(flags),
        Some(("health", flags)) => health_command::run(flags),
        Some(("completions", flags)) => completions_command::run(flags, command_line::command()),
        Some(("man", flags)) => completions_command::man(flags, command_line::command()),
        // Unreachable: clap requires a subcommand and rejects unknown ones.
        _ => ExitCode::from(flags::USAGE),
    }
}
