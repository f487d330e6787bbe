//! Property: the command line accepts every `flash-sale` command in the documentation and in `--help`; the settings accept its
//! values, and the files it reads exist. Method: each command is parsed completely but not run.

use std::path::Path;

use clap::{ArgMatches, Command};
use settings::read::Reader;
use testkit::documents::{self, Documented};

/// The arguments after `flash-sale`, or after `cargo run ... --`, which runs the same binary.
fn arguments(command: &Documented) -> Option<Vec<String>> {
    let words = &command.words;
    match words.first()?.as_str() {
        "flash-sale" => Some(words[1..].to_vec()),
        "cargo" if words.get(1).is_some_and(|word| word == "run") => {
            let at = words.iter().position(|word| word == "--")?;
            let known = ["--release", "--locked"];
            assert!(words[2..at].iter().all(|flag| known.contains(&flag.as_str())), "{}", command.text());
            Some(words[at + 1..].to_vec())
        }
        _ => None,
    }
}

/// Why the command would be rejected; `None` if it is accepted.
fn parse_error(arguments: &[String]) -> Option<String> {
    let words = std::iter::once("flash-sale").chain(arguments.iter().map(String::as_str));
    let matches = match crate::command_line::command().try_get_matches_from(words) {
        Ok(matches) => matches,
        // clap returns `--help` and `--version` as errors, but they are none.
        Err(error) if !error.use_stderr() => return None,
        Err(error) => return Some(error.to_string()),
    };
    let mut innermost = &matches;
    while let Some((_, below)) = innermost.subcommand() {
        innermost = below;
    }
    settings_error(innermost).or_else(|| missing_file(innermost))
}

/// Invalid settings among the flags. Environment variables are ignored.
fn settings_error(flags: &ArgMatches) -> Option<String> {
    let no_environment = |_: &str| None;
    let mut reader = Reader::new(crate::flags::given_flags(flags), &no_environment);
    reader.gateway();
    reader.processor();
    reader.finish().err().map(|bad| bad.to_string())
}

/// An input file that does not exist.
fn missing_file(flags: &ArgMatches) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["scenario", "alerts"].into_iter().find_map(|name| {
        let file = flags.try_get_one::<std::path::PathBuf>(name).ok().flatten()?;
        (!root.join(file).is_file()).then(|| format!("--{name}: {} does not exist", file.display()))
    })
}

#[test]
fn documented_commands_are_accepted() {
    let mut count = 0;
    for (page, commands) in documents::pages(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        for command in commands {
            let Some(arguments) = arguments(&command) else { continue };
            count += 1;
            if let Some(reason) = parse_error(&arguments) {
                panic!("{page}:{}: {}\n{reason}", command.line, command.text());
            }
        }
    }
    assert!(count > 10, "only {count} commands were found");
}

#[test]
fn help_examples_are_accepted() {
    fn check(command: &Command, count: &mut usize) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let shown: Vec<&str> = help.lines().filter(|line| line.contains("flash-sale ")).collect();
        // Three blanks or more separate an example from its description.
        let bare = shown.iter().map(|line| line.trim().split("   ").next().unwrap_or_default());
        for command in documents::commands(&format!("```\n{}\n```", bare.collect::<Vec<_>>().join("\n"))) {
            let Some(arguments) = arguments(&command) else { continue };
            *count += 1;
            if let Some(reason) = parse_error(&arguments) {
                panic!("--help shows: {}\n{reason}", command.text());
            }
        }
        command.get_subcommands().for_each(|below| check(below, count));
    }
    let mut count = 0;
    check(&crate::command_line::command(), &mut count);
    assert!(count > 20, "only {count} examples were found");
}

#[test]
fn invalid_commands_are_detected() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(parse_error(&words("gateway --listen-addr 127.0.0.1:8080")), None);
    assert_eq!(parse_error(&words("--version")), None);
    assert!(parse_error(&words("gatewy")).is_some());
    assert!(parse_error(&words("gateway --listen-adr 127.0.0.1:8080")).is_some());
    assert!(
        parse_error(&words("gateway --listen-addr nowhere"))
            .is_some_and(|reason| reason.contains("LISTEN_ADDR"))
    );
    assert!(parse_error(&words("stock set 101 many")).is_some());
    let scenario = "loadgen --target http://127.0.0.1:8080 --scenario perf/scenarios/none.toml";
    assert!(parse_error(&words(scenario)).is_some_and(|reason| reason.contains("does not exist")));
}
