//! `flash-sale`: one binary, a subcommand for each part (contract, "Processes"). No logic lives here: a subcommand
//! reads its settings, starts what the crates offer and waits for a signal.

/// Settings as flags, and the exit codes.
mod flags;

/// The first SIGTERM or SIGINT, the second and the third, and the watchdog over the end.
mod signals;

/// librdkafka's timed waits by the monotonic clock.
mod monotonic_waits;

/// What systemd gives and wants to be told.
mod systemd;

/// Where Redis and Kafka are: in this process or behind an address.
mod places;

/// `flash-sale gateway`
mod gateway_command;

/// `flash-sale processor`
mod processor_command;

/// Both in one process.
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

/// Where reports go.
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

/// What documents and `--help` show is what the command line takes.
#[cfg(test)]
mod documented_commands;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = flags::command().get_matches();
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
        Some(("completions", flags)) => completions_command::run(flags),
        Some(("man", flags)) => completions_command::man(flags),
        // clap asks for a subcommand and knows all of them.
        _ => ExitCode::from(flags::USAGE),
    }
}
