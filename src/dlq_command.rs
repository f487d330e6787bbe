//! `flash-sale dlq list|show|stats|replay|purge`: dead letters, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use letters::replay::{Done, Places, Wanted, replay};
use letters::scan::scan;
use letters::{Filter, Letter};
use settings::kind::parse_duration_ms;
use settings::table;
use shard::clock;

use crate::flags::{failed, flag, on_servers};
use crate::signals::Interrupt;

/// Replays of an order before its letter stays where it is.
const ATTEMPTS_MAX: &str = "3";

/// The flags.
pub(crate) fn command() -> Command {
    let with_places = |command: Command| {
        command
            .args([&table::REDIS_ADDR, &table::KAFKA_ADDR, &table::ORDERS_TOPIC, &table::DLQ_TOPIC].map(flag))
    };
    let max = |help: &'static str| {
        Arg::new("max").long("max").value_name("N").value_parser(value_parser!(u64).range(1..)).help(help)
    };
    let dry_run = Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("Say how many letters it would be, and do nothing");
    let all = Arg::new("all")
        .long("all")
        .action(ArgAction::SetTrue)
        .help("Those that were replayed or purged as well");
    Command::new("dlq")
        .about("List, count, replay or purge dead letters")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_places(with_filter(Command::new("list").about("A line for each open letter"))).args([
            max("Most letters listed [default: 100]"),
            all.clone(),
            Arg::new("json").long("json").action(ArgAction::SetTrue).help("A JSON object a line"),
        ]))
        .subcommand(
            with_places(Command::new("show").about("Everything that one letter says")).arg(
                Arg::new("letter")
                    .required(true)
                    .value_name("LETTER")
                    .help("Its place as listed, such as 3/17, or the request_id or correlation_id of its order"),
            ),
        )
        .subcommand(with_places(with_filter(Command::new("stats").about("How many letters, by reason and item"))).arg(all))
        .subcommand(
            with_places(with_filter(
                Command::new("replay").about("Send letters back into the topic of orders, each at most once"),
            ))
            .args([
                dry_run.clone(),
                max("Most letters replayed"),
                Arg::new("rate")
                    .long("rate")
                    .value_name("N")
                    .value_parser(value_parser!(u64).range(1..=1_000_000))
                    .help("Letters a second; without it as fast as Kafka takes them"),
                Arg::new("attempts-max")
                    .long("attempts-max")
                    .value_name("N")
                    .default_value(ATTEMPTS_MAX)
                    .value_parser(value_parser!(u32).range(1..=1000))
                    .help("An order that was replayed so often already stays in quarantine"),
            ]),
        )
        .subcommand(
            with_places(with_filter(
                Command::new("purge").about("Mark letters as settled without replaying them; Kafka keeps them"),
            ))
            .args([
                dry_run,
                max("Most letters purged"),
                Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Really; else it is a dry run"),
            ]),
        )
        .after_help(
            "Examples:\n  \
             flash-sale dlq stats\n  \
             flash-sale dlq list --reason \"Payment Timeout\" --since 2h\n  \
             flash-sale dlq show 3/17\n  \
             flash-sale dlq replay --reason \"Payment Timeout\" --rate 500 --dry-run\n  \
             flash-sale dlq purge --reason \"Invalid Order Format\" --yes\n\n\
             A replay may be stopped and started again at any time. processor_dlq_size and the age of the oldest letter\n\
             count open letters: those neither replayed nor purged. docs/dead-letters.md says what lies where.\n\n\
             Exit codes: 0 done, 1 could not go on or letters could not be sent, 64 a setting was refused, 130 and 143\n\
             interrupted (what was settled stays settled).",
        )
}

fn with_filter(command: Command) -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let time = |name: &'static str, help: &'static str| text(name, "TIME", help).value_parser(moment_ms);
    command.args([
        text(
            "reason",
            "REASON",
            "Payment Timeout, Redis Failure, Unknown Item or Invalid Order Format; may be repeated",
        )
        .action(ArgAction::Append),
        text("item", "ID", "Letters of this item"),
        text("correlation-id", "ID", "Letters with this correlation id"),
        text("request-id", "ID", "Letters of this order"),
        time("since", "Written since then: so long ago, as 90m, or Unix milliseconds"),
        time("until", "Written before then, likewise"),
    ])
}

/// `90m` is a moment ninety minutes ago; digits alone are Unix milliseconds.
fn moment_ms(text: &str) -> Result<i64, String> {
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

/// Runs one of them.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let Some((verb, flags)) = flags.subcommand() else { return failed("no subcommand") };
    let shared = match on_servers(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let places = Places {
        redis: shared.redis.clone(),
        kafka: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        dlq_topic: shared.dlq_topic.clone(),
    };
    match verb {
        "list" => list(&places, flags),
        "show" => show(&places, flags),
        "stats" => stats(&places, flags),
        _ => settle(&places, flags, verb == "purge"),
    }
}

fn list(places: &Places, flags: &ArgMatches) -> ExitCode {
    let max = flags.get_one::<u64>("max").copied().unwrap_or(100);
    let (shows_all, is_json) = (flags.get_flag("all"), flags.get_flag("json"));
    let mut listed = 0;
    if !is_json {
        println!(
            "{:<10} {:<24} {:<20} {:>7} {:<12} request_id",
            "letter", "written", "reason", "attempt", "item"
        );
    }
    let result = scan(places, &filter(flags), |letter, is_handled| {
        if is_handled && !shows_all {
            return ControlFlow::Continue(());
        }
        if listed == max {
            return ControlFlow::Break(());
        }
        listed += 1;
        if is_json {
            println!("{}", json(&letter, is_handled));
        } else {
            let reason = if is_handled { format!("({})", letter.reason) } else { letter.reason.clone() };
            println!(
                "{:<10} {:<24} {reason:<20} {:>7} {:<12} {}",
                letter.place.to_string(),
                written(&letter),
                letter.attempt,
                letter.item_id.as_deref().unwrap_or("-"),
                letter.request_id.as_deref().unwrap_or("-")
            );
        }
        ControlFlow::Continue(())
    });
    match result {
        Ok(()) => {
            if listed == max {
                eprintln!(
                    "flash-sale: the first {max}; --max N shows more, flash-sale dlq stats counts them all"
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(error),
    }
}

fn written(letter: &Letter) -> String {
    letter.written_ms.map_or_else(|| "-".to_owned(), |ms| clock::rfc3339_ms(ms.max(0) as u64))
}

fn json(letter: &Letter, is_handled: bool) -> serde_json::Value {
    serde_json::json!({
        "letter": letter.place.to_string(),
        "written": written(letter),
        "reason": letter.reason,
        "message": letter.message,
        "request_id": letter.request_id,
        "correlation_id": letter.correlation_id,
        "item_id": letter.item_id,
        "user_id": letter.user_id,
        "amount": letter.amount,
        "attempt": letter.attempt,
        "settled": is_handled,
    })
}

fn show(places: &Places, flags: &ArgMatches) -> ExitCode {
    let wanted = flags.get_one::<String>("letter").cloned().unwrap_or_default();
    let mut found = 0;
    let result = scan(places, &Filter::default(), |letter, is_handled| {
        let is_it = letter.place.to_string() == wanted
            || letter.request_id.as_ref() == Some(&wanted)
            || letter.correlation_id.as_ref() == Some(&wanted);
        if is_it {
            found += 1;
            print!("{}", sheet(&letter, is_handled));
        }
        ControlFlow::Continue(())
    });
    match result {
        Ok(()) if found > 0 => ExitCode::SUCCESS,
        Ok(()) => failed(format!("no letter {wanted:?}; flash-sale dlq list names them")),
        Err(error) => failed(error),
    }
}

fn sheet(letter: &Letter, is_handled: bool) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let bytes = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or_else(|| "-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut text = String::new();
    for (name, value) in [
        ("letter", letter.place.to_string()),
        ("state", if is_handled { "replayed or purged" } else { "open" }.to_owned()),
        ("written", written(letter)),
        ("reason", letter.reason.clone()),
        ("message", letter.message.clone()),
        ("attempt", letter.attempt.to_string()),
        ("request_id", or_none(&letter.request_id)),
        ("correlation_id", or_none(&letter.correlation_id)),
        ("item_id", or_none(&letter.item_id)),
        ("user_id", or_none(&letter.user_id)),
        ("key", bytes(&letter.key)),
        ("value", bytes(&letter.value)),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<15} {}", value.escape_debug());
    }
    text.push('\n');
    text
}

fn stats(places: &Places, flags: &ArgMatches) -> ExitCode {
    let shows_all = flags.get_flag("all");
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut items: BTreeMap<String, u64> = BTreeMap::new();
    let (mut open, mut settled, mut oldest_ms) = (0_u64, 0_u64, i64::MAX);
    let result = scan(places, &filter(flags), |letter, is_handled| {
        if is_handled {
            settled += 1;
        } else {
            open += 1;
            oldest_ms = oldest_ms.min(letter.written_ms.unwrap_or(i64::MAX));
        }
        if !is_handled || shows_all {
            *reasons.entry(letter.reason).or_default() += 1;
            *items.entry(letter.item_id.unwrap_or_else(|| "-".to_owned())).or_default() += 1;
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

/// The most frequent first, with a bar of its share of the largest.
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

fn settle(places: &Places, flags: &ArgMatches, is_purge: bool) -> ExitCode {
    let is_dry = flags.get_flag("dry-run") || (is_purge && !flags.get_flag("yes"));
    let number = |name: &str| flags.try_get_one::<u64>(name).ok().flatten().copied();
    let wanted = Wanted {
        filter: filter(flags),
        letters_max: number("max"),
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
    let done = replay(places, &wanted, &run, interrupt.flag(), |done| {
        if shows {
            eprint!("\r{:>12} letters settled ", done.settled);
        }
    });
    if shows {
        eprintln!();
    }
    let done = match done {
        Ok(done) => done,
        Err(error) => return failed(error),
    };
    print!("{}", told(&done, &wanted));
    if interrupt.is_set() {
        return interrupt.exit_code();
    }
    if done.not_sent + done.in_doubt > 0 {
        return failed("not all letters could be sent; run the same command again");
    }
    if is_purge && is_dry && !flags.get_flag("dry-run") {
        eprintln!("flash-sale: nothing was purged; say --yes to do it");
    }
    ExitCode::SUCCESS
}

fn told(done: &Done, wanted: &Wanted) -> String {
    let verb = match (wanted.is_purge, wanted.is_dry) {
        (false, false) => "replayed",
        (false, true) => "would be replayed",
        (true, false) => "purged",
        (true, true) => "would be purged",
    };
    let mut text = format!("{} {verb}\n", done.settled);
    for (count, what) in [
        (done.found, "of a killed run found in the topic of orders, and marked"),
        (done.returned, "of a killed run not in the topic of orders, and open again"),
        (done.handled_before, "settled before"),
        (done.not_meant, "not meant by the filter"),
        (done.quarantined, "in quarantine: replayed too often"),
        (done.not_orders, "without an order that could be tried again"),
        (done.not_sent, "not sent: open as before"),
        (done.in_doubt, "in doubt: the next replay finds out"),
    ] {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{count} {what}");
        }
    }
    text
}
