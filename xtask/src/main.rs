//! `cargo xtask`: the commands of this repository, the same on a developer's machine and in CI.
//!
//! Owns: the `.services/` directory (downloaded services and tools), the services it starts, the processes it runs.
//! Invariants: every process it starts is stopped by pid, also after an error or Ctrl-C; a service or tool that
//! cannot be obtained is an error with a remedy, never a skipped step; each step prints when it starts and how
//! long it took. Only `bench --update`, `chaos`, `drill`, `perf` and `screens` change tracked files.

mod step;

mod workspace;

mod services;

mod test;

mod ci;

mod deploy;

mod dist;

mod tidy;

mod up;

mod perf;

mod bench;

mod profile;

mod fuzz;

mod drill;

mod screens;

mod chaos;

mod model;

use std::process::ExitCode;

use clap::{Arg, ArgAction, Command, value_parser};
use step::Failure;

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    step::listen_for_signals();
    let result = match matches.subcommand() {
        Some(("test", args)) => test::run(&test::Plan {
            only: args.get_one::<String>("only").map(String::as_str).into(),
            filter: args.get_many::<String>("filter").unwrap_or_default().cloned().collect(),
        }),
        Some(("ci", _)) => ci::run(),
        Some(("up", args)) => up::run(args.get_one("env").map(std::path::PathBuf::as_path)),
        Some(("tidy", _)) => tidy::run(),
        Some(("deploy", _)) => deploy::run(),
        Some(("dist", args)) => {
            dist::run(args.get_one::<String>("target").map_or(dist::TARGET, String::as_str))
        }
        Some(("perf", args)) => perf::run(args),
        Some(("profile", args)) => profile::run(args),
        Some(("bench", args)) => bench::run(args),
        Some(("fuzz", args)) => fuzz::run(args),
        Some(("drill", args)) => drill::run(args),
        Some(("chaos", args)) => chaos::run(args),
        Some(("model", _)) => model::run(),
        Some(("screens", _)) => screens::run(),
        _ => unreachable!("clap requires one of the subcommands above"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            eprintln!("xtask: interrupted; all started processes were stopped");
            ExitCode::from(130)
        }
        Err(Failure::Failed(reason)) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> Command {
    let test = Command::new("test")
        .about("Run all tests: first those without servers, then those against a real Redis and a real Kafka")
        .after_help(
            "Examples:\n  \
             cargo xtask test                       everything\n  \
             cargo xtask test --only fast           what `cargo test --workspace` runs\n  \
             cargo xtask test --only real -- stock  tests against real services whose name contains `stock`\n\n\
             Services are found in this order: REDIS_ADDR and KAFKA_ADDR if set; a running Docker engine;\n\
             Debian's redis-server by apt and Apache Kafka by Maven, stored in .services/. Tests that\n\
             stop a server start their own and always need redis-server and a JRE on this\n\
             machine; both are installed when missing.\n\n\
             The last line is `N passed, N failed`. Exit code: 0 all passed, 1 a test failed, 130 interrupted.",
        )
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("PART")
                .value_parser(["fast", "real"])
                .help("fast: tests that need no server; real: tests that need a real Redis or Kafka"),
        )
        .arg(
            Arg::new("filter")
                .last(true)
                .action(ArgAction::Append)
                .value_name("FILTER")
                .help("Passed to the test programs: part of a test's name, or flags such as --nocapture"),
        );
    let ci = Command::new("ci")
        .about("Run every check a change must pass: fmt, tidy, clippy, cargo-deny, deploy, tests, a demo sale, instruction counts")
        .after_help(
            "All steps run even after one fails; the table at the end shows which failed.\n\
             Exit code: 0 all passed, 1 a step failed, 130 interrupted.",
        );
    let up = Command::new("up")
        .about("Start a Redis and a Kafka in the foreground and print their addresses, until Ctrl-C")
        .after_help(
            "Examples:\n  \
             cargo xtask up                    prints `export REDIS_ADDR=...` and `export KAFKA_ADDR=...`\n  \
             cargo xtask up --env .services/env    and in another terminal: . .services/env",
        )
        .arg(
            Arg::new("env")
                .long("env")
                .value_name("FILE")
                .value_parser(value_parser!(std::path::PathBuf))
                .help(
                    "Also write the export lines to FILE once the services respond; FILE is removed on exit",
                ),
        );
    let screens = Command::new("screens").about(
        "Regenerate docs/screens/live.png: the live view of loadgen during a sale, taken in a headless browser",
    );
    let tidy = Command::new("tidy")
        .about("Check what compilers do not: file length, line length, markers, documented names");
    let deploy = Command::new("deploy")
        .about("Check the deployment files: compose file, image, edge, Kubernetes manifests, workflows")
        .after_help(
            "No container engine is needed. Each file is checked by the program that will read it: Compose's own loader,\n\
             kustomize and actionlint (built by Go, stored in .services/), haproxy (by apt).\n\
             Exit code: 0 no problem found, 1 problems found, 130 interrupted.",
        );
    let dist = Command::new("dist")
        .about("Build a release archive (static binary, shell completions, man pages) and its SHA-256 checksum")
        .after_help(
            "Examples:\n  \
             cargo xtask dist\n  \
             cargo xtask dist --target x86_64-unknown-linux-gnu    runs only with this machine's C library or newer\n\n\
             Output: target/dist. Needs rustup, and installs musl-tools by apt.",
        )
        .arg(
            Arg::new("target")
                .long("target")
                .value_name("TRIPLE")
                .default_value(dist::TARGET)
                .help("Target to build for"),
        );
    Command::new("cargo xtask")
        .bin_name("cargo xtask")
        .about("Development commands of this repository")
        .after_help(
            "Examples:\n  \
             cargo xtask test    run all tests; obtains the services they need\n  \
             cargo xtask ci      run what CI runs\n  \
             cargo xtask up      start a Redis and a Kafka for experiments",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            test,
            ci,
            up,
            tidy,
            deploy,
            dist,
            perf::command(),
            profile::command(),
            bench::command(),
            fuzz::command(),
            drill::command(),
            chaos::command(),
            model::command(),
            screens,
        ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command_line().debug_assert();
    }

    #[test]
    fn documented_commands_are_accepted() {
        let mut count = 0;
        for (page, commands) in testkit::documents::pages(crate::workspace::root()) {
            for command in
                commands.iter().filter(|command| command.words.starts_with(&["cargo".into(), "xtask".into()]))
            {
                count += 1;
                let words =
                    std::iter::once("cargo xtask").chain(command.words[2..].iter().map(String::as_str));
                if let Err(error) = super::command_line().try_get_matches_from(words) {
                    panic!("{page}:{}: {}\n{error}", command.line, command.text());
                }
            }
        }
        assert!(count > 5, "found only {count} commands");
    }
}
