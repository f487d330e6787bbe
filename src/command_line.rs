//! The whole command line: every subcommand with its flags, examples and exit codes.

use clap::{Arg, Command};
use settings::table::Role;

use crate::flags::with_settings;

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("flash-sale")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Order intake that survives the first second of a sale")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Every setting is also an environment variable, named in brackets; flags take precedence.\n\n\
             Examples:\n  \
             flash-sale demo                         a complete sale in one process, with a verdict\n  \
             flash-sale serve                        gateway and processor, to try with curl\n  \
             flash-sale gateway --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092",
        )
        .subcommand(
            with_settings(
                Command::new("gateway")
                    .about("HTTP order gateway: accepts POST /buy once Kafka has acknowledged the order"),
                &[Role::Gateway],
            )
            .after_help(
                "Examples:\n  \
                 flash-sale gateway --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
                 RATE_LIMIT_MAX_REQUESTS=120 flash-sale gateway --listen-addr 127.0.0.1:8080\n\n\
                 Exit codes: 0 clean shutdown, 1 start failed or orders were still in flight at the shutdown timeout, \
                 64 invalid setting.",
            ),
        )
        .subcommand(
            with_settings(
                Command::new("processor")
                    .about("Order processor: consumes acknowledged orders, takes payment, updates stock"),
                &[Role::Processor],
            )
            .after_help(
                "Examples:\n  \
                 flash-sale processor --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
                 PAYMENT_FAILURE_RATE=0 flash-sale processor --metrics-addr 127.0.0.1:9090\n\n\
                 Exit codes: 0 clean shutdown, 1 start failed or unfinished orders were left for the next partition owner, \
                 64 invalid setting.",
            ),
        )
        .subcommand(
            with_settings(
                Command::new("serve")
                    .about("Gateway and processor in one process, to try with curl; Redis and Kafka are embedded by default")
                    .args([
                        Arg::new("item").long("item").value_name("ID").default_value("101").help("Item on sale"),
                        Arg::new("stock")
                            .long("stock")
                            .value_name("N")
                            .default_value("100")
                            .value_parser(clap::value_parser!(u64))
                            .help("Units of the item, set in the embedded store only"),
                    ]),
                &[Role::Gateway, Role::Processor],
            )
            .after_help("Example:\n  flash-sale serve --listen-addr 127.0.0.1:8080"),
        )
        .subcommand(
            with_settings(
                crate::demo_command::flags(
                    Command::new("demo").about("Complete flash sale in one process: load, live view, verdict, report"),
                ),
                &[Role::Gateway, Role::Processor],
            )
            .after_help(
                "Examples:\n  \
                 flash-sale demo\n  \
                 flash-sale demo --buyers 20000 --stock 500 --html report.html\n  \
                 flash-sale demo --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n\n\
                 Exit codes: 0 all checks passed, 1 could not run, write a report or shut down cleanly, 3 threshold \
                 exceeded, 4 ledger violated, \
                 5 load generator saturated, 64 invalid setting, 130 interrupted.",
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
