//! `flash-sale loadgen audit`: audits all orders in the topics, whoever sent them.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use audit::topics::{self, TopicsReport};
use clap::{Arg, ArgMatches, Command, value_parser};
use report::output;
use report::{CheckState, Verdict};
use settings::table;
use store::memory::Memory;
use store::open::Source;

use crate::backends::policy_without_admissions;
use crate::flags::{failed, flag, server_settings};

/// The flags.
pub(crate) fn command() -> Command {
    Command::new("audit")
        .about(
            "Audit the orders in the topics: one final status per order, a dead letter per failure, units add up",
        )
        .args([&table::REDIS_ADDR, &table::KAFKA_ADDR, &table::ORDERS_TOPIC, &table::DLQ_TOPIC].map(flag))
        .arg(
            Arg::new("json")
                .long("json")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("JSON report file"),
        )
        .after_help(
            "Examples:\n  \
             flash-sale loadgen audit --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
             flash-sale loadgen audit --json audit.json\n\n\
             Run it when the consumer group has no lag: an order still in flight counts as one without a final status.\n\
             Exit codes: 0 no violations, 1 could not read, or write the report, 4 violations found, 64 invalid setting.",
        )
}

/// Runs it.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match server_settings(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let places = topics::Services {
        source: Source::new(&shared.redis, || Memory::new(policy_without_admissions(&shared), 0)),
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
        "{} records of {} orders ({} repeats, {} not orders), {} dead letters\n",
        report.records, report.orders, report.repeats, report.not_orders, report.dead_letters
    );
    // Writing to a string cannot fail.
    for (status, count) in &report.ends {
        let _ = writeln!(text, "  {status:<24} {count:>12}");
    }
    for (reason, count) in &report.dead_letters_by_reason {
        let _ = writeln!(text, "  dead letter: {reason:<16} {count:>12}");
    }
    for item in &report.items {
        let cell = |value: Option<i64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        let _ = writeln!(
            text,
            "  item {}: brought in {}, sold {}, left {}, refunded {}",
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
    for violation in &report.violations {
        let _ = writeln!(text, "  {}: {}", violation.rule, violation.request_ids.join(", "));
    }
    text
}
