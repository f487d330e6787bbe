//! `flash-sale dlq list|show|stats|replay|purge`: inspect, replay or purge dead letters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use dead_letters::replay::{Endpoints, ReplayCounts, ReplayOptions, replay};
use dead_letters::scan::scan;
use dead_letters::{DeadLetter, Filter};
use settings::kind::parse_duration_ms;
use settings::table;
use shard::clock;

use crate::flags::{failed, flag, server_settings};
use crate::signals::Interrupt;

/// Default of `--attempts-max`.
const ATTEMPTS_MAX: &str = "3";

/// The flags.
pub(crate) fn command() -> Command {
    let with_endpoints = |command: Command| {
        command
            .args([&table::REDIS_ADDR, &table::KAFKA_ADDR, &table::ORDERS_TOPIC, &table::DLQ_TOPIC].map(flag))
    };
    let max = |help: &'static str| {
        Arg::new("max").long("max").value_name("N").value_parser(value_parser!(u64).range(1..)).help(help)
    };
    let dry_run = Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("Only report how many dead letters would be replayed or purged");
    let all = Arg::new("all")
        .long("all")
        .action(ArgAction::SetTrue)
        .help("Include dead letters that were already replayed or purged");
    Command::new("dlq")
        .about("List, count, replay or purge dead letters")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_endpoints(with_filter(Command::new("list").about("List open dead letters, one per line"))).args([
            max("Maximum number of dead letters to list [default: 100]"),
            all.clone(),
            Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object per line"),
        ]))
        .subcommand(
            with_endpoints(Command::new("show").about("Show all fields of a dead letter")).arg(
                Arg::new("dead-letter")
                    .required(true)
                    .value_name("DEAD_LETTER")
                    .help("Partition and offset as listed (3/17), or the request_id or correlation_id of the order"),
            ),
        )
        .subcommand(with_endpoints(with_filter(Command::new("stats").about("Count dead letters by reason and item"))).arg(all))
        .subcommand(
            with_endpoints(with_filter(
                Command::new("replay").about("Send dead letters back to the orders topic, each at most once"),
            ))
            .args([
                dry_run.clone(),
                max("Maximum number of dead letters to replay"),
                Arg::new("rate")
                    .long("rate")
                    .value_name("N")
                    .value_parser(value_parser!(u64).range(1..=1_000_000))
                    .help("Maximum replay rate in records per second (default: unlimited)"),
                Arg::new("attempts-max")
                    .long("attempts-max")
                    .value_name("N")
                    .default_value(ATTEMPTS_MAX)
                    .value_parser(value_parser!(u32).range(1..=1000))
                    .help("Do not replay orders that were already replayed this often (quarantine)"),
            ]),
        )
        .subcommand(
            with_endpoints(with_filter(
                Command::new("purge").about("Mark dead letters as settled without a replay; Kafka keeps the records"),
            ))
            .args([
                dry_run,
                max("Maximum number of dead letters to purge"),
                Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Purge; without this flag it is a dry run"),
            ]),
        )
        .after_help(
            "Examples:\n  \
             flash-sale dlq stats\n  \
             flash-sale dlq list --reason \"Payment Timeout\" --since 2h\n  \
             flash-sale dlq show 3/17\n  \
             flash-sale dlq replay --reason \"Payment Timeout\" --rate 500 --dry-run\n  \
             flash-sale dlq purge --reason \"Invalid Order Format\" --yes\n\n\
             A replay can be stopped and restarted at any time. processor_dlq_size and the age of the oldest dead letter\n\
             count only open dead letters: those neither replayed nor purged. docs/dead-letters.md describes where they are\n\
             stored.\n\n\
             Exit codes: 0 done, 1 failed or not all dead letters could be sent, 64 invalid setting, 130 or 143 interrupted\n\
             (settled dead letters stay settled).",
        )
}

fn with_filter(command: Command) -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let time = |name: &'static str, help: &'static str| text(name, "TIME", help).value_parser(parse_time_ms);
    command.args([
        text(
            "reason",
            "REASON",
            "Only this reason: Payment Timeout, Redis Failure, Unknown Item or Invalid Order Format; may be repeated",
        )
        .action(ArgAction::Append),
        text("item", "ID", "Only dead letters of this item"),
        text("correlation-id", "ID", "Only dead letters with this correlation id"),
        text("request-id", "ID", "Only dead letters of this order"),
        time("since", "Only dead letters written since then: an age, such as 90m, or Unix milliseconds"),
        time("until", "Only dead letters written before then: an age or Unix milliseconds"),
    ])
}

/// `90m` means ninety minutes ago; digits alone are Unix milliseconds.
fn parse_time_ms(text: &str) -> Result<i64, String> {
    let ago = parse_duration_ms(text).map(|ago_ms| clock::unix_ms().saturating_sub(ago_ms) as i64);
    text.parse()
        .ok()
        .or(ago)
        .ok_or_else(|| "give a duration such as 90m or 2h, or Unix milliseconds".to_owned())
}

fn filter(flags: &ArgMatches) -> Filter {
    let text = |name: &str| flags.get_one::<String>(name).cloned();
    let time = |name: &str| flags.get_one::<i64>(name).copied();
    Filter {
        reasons: flags.get_many::<String>("reason").into_iter().flatten().cloned().collect(),
        item_id: text("item"),
        correlation_id: text("correlation-id"),
        request_id: text("request-id"),
        since_ms: time("since"),
        until_ms: time("until"),
    }
}

/// Runs the subcommand.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let Some((verb, flags)) = flags.subcommand() else { return failed("no subcommand") };
    let shared = match server_settings(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let endpoints = Endpoints {
        redis: shared.redis.clone(),
        kafka: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        dlq_topic: shared.dlq_topic.clone(),
    };
    match verb {
        "list" => list(&endpoints, flags),
        "show" => show(&endpoints, flags),
        "stats" => stats(&endpoints, flags),
        _ => settle(&endpoints, flags, verb == "purge"),
    }
}

fn list(endpoints: &Endpoints, flags: &ArgMatches) -> ExitCode {
    let max = flags.get_one::<u64>("max").copied().unwrap_or(100);
    let (shows_all, is_json) = (flags.get_flag("all"), flags.get_flag("json"));
    let mut listed = 0;
    if !is_json {
        println!(
            "{:<12} {:<24} {:<20} {:>7} {:<12} request_id",
            "dead letter", "written", "reason", "attempt", "item"
        );
    }
    let result = scan(endpoints, &filter(flags), |dead_letter, is_handled| {
        if is_handled && !shows_all {
            return ControlFlow::Continue(());
        }
        if listed == max {
            return ControlFlow::Break(());
        }
        listed += 1;
        if is_json {
            println!("{}", json(&dead_letter, is_handled));
        } else {
            let reason =
                if is_handled { format!("({})", dead_letter.reason) } else { dead_letter.reason.clone() };
            println!(
                "{:<12} {:<24} {reason:<20} {:>7} {:<12} {}",
                dead_letter.position.to_string(),
                written(&dead_letter),
                dead_letter.attempt,
                dead_letter.item_id.as_deref().unwrap_or("-"),
                dead_letter.request_id.as_deref().unwrap_or("-")
            );
        }
        ControlFlow::Continue(())
    });
    match result {
        Ok(()) => {
            if listed == max {
                eprintln!(
                    "flash-sale: only the first {max} are listed; --max N lists more, flash-sale dlq stats counts all"
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(error),
    }
}

fn written(dead_letter: &DeadLetter) -> String {
    dead_letter.written_ms.map_or_else(|| "-".to_owned(), |ms| clock::rfc3339_ms(ms.max(0) as u64))
}

fn json(dead_letter: &DeadLetter, is_handled: bool) -> serde_json::Value {
    serde_json::json!({
        "letter": dead_letter.position.to_string(),
        "written": written(dead_letter),
        "reason": dead_letter.reason,
        "message": dead_letter.message,
        "request_id": dead_letter.request_id,
        "correlation_id": dead_letter.correlation_id,
        "item_id": dead_letter.item_id,
        "user_id": dead_letter.user_id,
        "amount": dead_letter.amount,
        "attempt": dead_letter.attempt,
        "settled": is_handled,
    })
}

fn show(endpoints: &Endpoints, flags: &ArgMatches) -> ExitCode {
    let wanted = flags.get_one::<String>("dead-letter").cloned().unwrap_or_default();
    let mut found = 0;
    let result = scan(endpoints, &Filter::default(), |dead_letter, is_handled| {
        let matches = dead_letter.position.to_string() == wanted
            || dead_letter.request_id.as_ref() == Some(&wanted)
            || dead_letter.correlation_id.as_ref() == Some(&wanted);
        if matches {
            found += 1;
            print!("{}", details(&dead_letter, is_handled));
        }
        ControlFlow::Continue(())
    });
    match result {
        Ok(()) if found > 0 => ExitCode::SUCCESS,
        Ok(()) => failed(format!("no dead letter {wanted:?}; flash-sale dlq list shows all")),
        Err(error) => failed(error),
    }
}

fn details(dead_letter: &DeadLetter, is_handled: bool) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let bytes = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or_else(|| "-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut text = String::new();
    for (name, value) in [
        ("dead letter", dead_letter.position.to_string()),
        ("state", if is_handled { "replayed or purged" } else { "open" }.to_owned()),
        ("written", written(dead_letter)),
        ("reason", dead_letter.reason.clone()),
        ("message", dead_letter.message.clone()),
        ("attempt", dead_letter.attempt.to_string()),
        ("request_id", or_none(&dead_letter.request_id)),
        ("correlation_id", or_none(&dead_letter.correlation_id)),
        ("item_id", or_none(&dead_letter.item_id)),
        ("user_id", or_none(&dead_letter.user_id)),
        ("key", bytes(&dead_letter.key)),
        ("value", bytes(&dead_letter.value)),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<15} {}", value.escape_debug());
    }
    text.push('\n');
    text
}

fn stats(endpoints: &Endpoints, flags: &ArgMatches) -> ExitCode {
    let shows_all = flags.get_flag("all");
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut items: BTreeMap<String, u64> = BTreeMap::new();
    let (mut open, mut settled, mut oldest_ms) = (0_u64, 0_u64, i64::MAX);
    let result = scan(endpoints, &filter(flags), |dead_letter, is_handled| {
        if is_handled {
            settled += 1;
        } else {
            open += 1;
            oldest_ms = oldest_ms.min(dead_letter.written_ms.unwrap_or(i64::MAX));
        }
        if !is_handled || shows_all {
            *reasons.entry(dead_letter.reason).or_default() += 1;
            *items.entry(dead_letter.item_id.unwrap_or_else(|| "-".to_owned())).or_default() += 1;
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = result {
        return failed(error);
    }
    let age = if open > 0 && oldest_ms != i64::MAX {
        let age_s = clock::unix_ms().saturating_sub(oldest_ms.max(0) as u64) / 1000;
        format!(", the oldest {age_s} s old")
    } else {
        String::new()
    };
    println!("{open} open{age}; {settled} replayed or purged");
    for (title, counts) in [("reason", reasons), ("item", items)] {
        print!("{}", bars(title, counts));
    }
    ExitCode::SUCCESS
}

/// One line per name, most frequent first, with a bar relative to the largest count.
fn bars(title: &str, counts: BTreeMap<String, u64>) -> String {
    const SHOWN: usize = 20;
    const WIDTH: u64 = 40;
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let most = counts.first().map_or(1, |&(_, count)| count).max(1);
    let mut text = if counts.is_empty() { String::new() } else { format!("\nby {title}\n") };
    for (name, count) in counts.iter().take(SHOWN) {
        let bar = "█".repeat((count * WIDTH).div_ceil(most) as usize);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<24} {count:>10} {bar}");
    }
    if counts.len() > SHOWN {
        let _ = writeln!(text, "  and {} more", counts.len() - SHOWN);
    }
    text
}

fn settle(endpoints: &Endpoints, flags: &ArgMatches, is_purge: bool) -> ExitCode {
    let is_dry = flags.get_flag("dry-run") || (is_purge && !flags.get_flag("yes"));
    let number = |name: &str| flags.try_get_one::<u64>(name).ok().flatten().copied();
    let wanted = ReplayOptions {
        filter: filter(flags),
        dead_letters_max: number("max"),
        rate_per_s: number("rate"),
        attempts_max: flags.try_get_one("attempts-max").ok().flatten().copied().unwrap_or(u32::MAX),
        is_dry,
        is_purge,
    };
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => return failed(error),
    };
    let shows = std::io::stderr().is_terminal();
    let run = format!("{}-{:x}", std::process::id(), clock::unix_ms());
    let done = replay(endpoints, &wanted, &run, interrupt.flag(), |done| {
        if shows {
            eprint!("\r{:>12} dead letters settled ", done.settled);
        }
    });
    if shows {
        eprintln!();
    }
    let done = match done {
        Ok(done) => done,
        Err(error) => return failed(error),
    };
    print!("{}", summary(&done, &wanted));
    if interrupt.is_set() {
        return interrupt.exit_code();
    }
    if done.not_sent + done.in_doubt > 0 {
        return failed("not all dead letters could be sent; run the same command again");
    }
    if is_purge && is_dry && !flags.get_flag("dry-run") {
        eprintln!("flash-sale: nothing was purged; add --yes to purge");
    }
    ExitCode::SUCCESS
}

fn summary(done: &ReplayCounts, wanted: &ReplayOptions) -> String {
    let verb = match (wanted.is_purge, wanted.is_dry) {
        (false, false) => "replayed",
        (false, true) => "would be replayed",
        (true, false) => "purged",
        (true, true) => "would be purged",
    };
    let mut text = format!("{} {verb}\n", done.settled);
    for (count, what) in [
        (done.found, "from a killed run: found in the orders topic, marked as replayed"),
        (done.returned, "from a killed run: not in the orders topic, open again"),
        (done.handled_before, "already settled"),
        (done.not_selected, "not matched by the filter"),
        (done.quarantined, "in quarantine: replayed too often"),
        (done.not_orders, "contain no order that could be retried"),
        (done.not_sent, "not sent: still open"),
        (done.in_doubt, "in doubt: the next replay resolves them"),
    ] {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{count} {what}");
        }
    }
    text
}
