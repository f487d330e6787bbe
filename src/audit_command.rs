//! `flash-sale loadgen audit`: are the books right, whoever sent the orders?

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use loadgen::output;
use loadgen::report::{CheckState, Verdict};
use loadgen::topics::{self, TopicsReport};
use settings::table;
use store::memory::Memory;
use store::open::Source;

use crate::flags::{failed, flag, on_servers};
use crate::places::model_policy;

/// The flags.
pub(crate) fn command() -> Command {
    Command::new("audit")
        .about(
            "Audit what lies in the topics: every order has one end, every failure its letter, units add up",
        )
        .args([&table::REDIS_ADDR, &table::KAFKA_ADDR, &table::ORDERS_TOPIC, &table::DLQ_TOPIC].map(flag))
        .arg(
            Arg::new("json")
                .long("json")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Where the report goes as JSON"),
        )
        .after_help(
            "Examples:\n  \
             flash-sale loadgen audit --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
             flash-sale loadgen audit --json books.json\n\n\
             Run it when the consumer group has no lag: what is still on the road counts as without an end.\n\
             Exit codes: 0 the books are right, 1 could not read, or write the report, 4 they are not, 64 a setting was refused.",
        )
}

/// Runs it.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match on_servers(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let places = topics::Places {
        source: Source::new(&shared.redis, || Memory::new(model_policy(&shared), 0)),
        kafka: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        dlq_topic: shared.dlq_topic.clone(),
    };
    let shows = std::io::stderr().is_terminal();
    let report = topics::audit(&places, |left| {
        if shows {
            eprint!("\r{left:>12} records left ");
        }
    });
    if shows {
        eprintln!();
    }
    let report = match report {
        Ok(report) => report,
        Err(reason) => return failed(reason),
    };
    print!("{}", table_of(&report));
    if let Some(path) = flags.get_one::<PathBuf>("json") {
        let json = report.json().map_err(|error| error.to_string());
        let written =
            json.and_then(|json| output::write_json(&json, path).map_err(|fault| fault.to_string()));
        if let Err(fault) = written {
            return failed(fault);
        }
    }
    ExitCode::from(report.verdict.map_or(crate::flags::FAILED, Verdict::exit_code))
}

fn table_of(report: &TopicsReport) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{} records of {} orders ({} repeats, {} no orders), {} dead letters\n",
        report.records, report.orders, report.repeats, report.not_orders, report.letters
    );
    // Writing to a string cannot fail.
    for (end, count) in &report.ends {
        let _ = writeln!(text, "  {end:<24} {count:>12}");
    }
    for (reason, count) in &report.letters_by_reason {
        let _ = writeln!(text, "  letter: {reason:<16} {count:>12}");
    }
    for item in &report.items {
        let cell = |value: Option<i64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        let _ = writeln!(
            text,
            "  item {}: brought in {}, sold {}, left {}, given back {}",
            item.item_id,
            cell(item.brought_in),
            item.sold,
            cell(item.left),
            item.refunded
        );
    }
    for check in &report.checks {
        let word = match check.state {
            CheckState::Pass => "ok  ",
            CheckState::Fail => "FAIL",
            CheckState::Warned => "WARN",
            CheckState::NotJudged => "?   ",
        };
        let value = check.value.unwrap_or_default();
        let _ = writeln!(
            text,
            "  {word} {} {value} {} {} {}",
            check.name, check.relation, check.limit, check.detail
        );
    }
    for offence in &report.offences {
        let _ = writeln!(text, "  {}: {}", offence.rule, offence.request_ids.join(", "));
    }
    text
}
