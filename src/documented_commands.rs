//! Every `flash-sale` command that our documents or our own `--help` show is one that the command line takes, with values
//! that the settings take and files that are there. Parsed whole, run not at all.

use std::path::Path;

use clap::{ArgMatches, Command};
use settings::read::Reader;
use testkit::documents::{self, Documented};

/// The words behind `flash-sale`, or behind `cargo run ... --`, which runs the same.
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

/// Why it would not run; `None` when it would.
fn wrong(arguments: &[String]) -> Option<String> {
    let words = std::iter::once("flash-sale").chain(arguments.iter().map(String::as_str));
    let matches = match crate::flags::command().try_get_matches_from(words) {
        Ok(matches) => matches,
        // `--help` and `--version` are no errors to the one who asked.
        Err(error) if !error.use_stderr() => return None,
        Err(error) => return Some(error.to_string()),
    };
    let mut innermost = &matches;
    while let Some((_, below)) = innermost.subcommand() {
        innermost = below;
    }
    refused(innermost).or_else(|| missing(innermost))
}

/// What the settings say to the flags; the variables of this machine are not asked.
fn refused(flags: &ArgMatches) -> Option<String> {
    let nothing = |_: &str| None;
    let mut reader = Reader::new(crate::flags::given(flags), &nothing);
    reader.gateway();
    reader.processor();
    reader.finish().err().map(|bad| bad.to_string())
}

/// Files that are read, and not there.
fn missing(flags: &ArgMatches) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["scenario", "alerts"].into_iter().find_map(|name| {
        let file = flags.try_get_one::<std::path::PathBuf>(name).ok().flatten()?;
        (!root.join(file).is_file()).then(|| format!("--{name}: there is no {}", file.display()))
    })
}

#[test]
fn those_of_the_documents() {
    let mut count = 0;
    for (page, commands) in documents::pages(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        for command in commands {
            let Some(arguments) = arguments(&command) else { continue };
            count += 1;
            if let Some(reason) = wrong(&arguments) {
                panic!("{page}:{}: {}\n{reason}", command.line, command.text());
            }
        }
    }
    assert!(count > 10, "only {count} commands were found");
}

#[test]
fn those_of_every_help() {
    fn check(command: &Command, count: &mut usize) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let shown: Vec<&str> = help.lines().filter(|line| line.contains("flash-sale ")).collect();
        // Two blanks and more part an example from what it is for.
        let bare = shown.iter().map(|line| line.trim().split("   ").next().unwrap_or_default());
        for command in documents::commands(&format!("```\n{}\n```", bare.collect::<Vec<_>>().join("\n"))) {
            let Some(arguments) = arguments(&command) else { continue };
            *count += 1;
            if let Some(reason) = wrong(&arguments) {
                panic!("--help shows: {}\n{reason}", command.text());
            }
        }
        command.get_subcommands().for_each(|below| check(below, count));
    }
    let mut count = 0;
    check(&crate::flags::command(), &mut count);
    assert!(count > 20, "only {count} examples were found");
}

#[test]
fn what_is_wrong_is_found() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(wrong(&words("gateway --listen-addr 127.0.0.1:8080")), None);
    assert_eq!(wrong(&words("--version")), None);
    assert!(wrong(&words("gatewy")).is_some());
    assert!(wrong(&words("gateway --listen-adr 127.0.0.1:8080")).is_some());
    assert!(
        wrong(&words("gateway --listen-addr nowhere")).is_some_and(|reason| reason.contains("LISTEN_ADDR"))
    );
    assert!(wrong(&words("stock set 101 many")).is_some());
    let scenario = "loadgen --target http://127.0.0.1:8080 --scenario perf/scenarios/none.toml";
    assert!(wrong(&words(scenario)).is_some_and(|reason| reason.contains("there is no")));
}
