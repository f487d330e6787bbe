//! Property: every command in the documentation works, or is listed here with the reason why it is not run here. Method: the
//! command line of the binary parses its commands completely (`src/documented_commands.rs`), that of xtask parses its own
//! (`xtask/src/main.rs`); each `curl` runs here, unchanged except for the port, against a real `serve`; all others must be
//! in the table below.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::documents::{self, Documented};
use testkit::{child, free_port, wait_until};

/// First words of a command, and why it is not run here.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "cargo build --release",
        "the build would wait for the one that runs this test; `cargo xtask ci` runs the same build",
    ),
    ("cargo install --path .", "the same build again; `cargo xtask dist` packs its result"),
    ("cargo test", "this is one of its tests"),
    (". .services/env", "reads what `cargo xtask up --env` writes while it runs"),
    ("docker compose", ENGINE),
    ("docker-compose", ENGINE),
    ("docker", ENGINE),
    (
        "kubectl",
        "no cluster is available; `cargo xtask deploy` renders the manifests and parses them with the types of Kubernetes",
    ),
    ("helm", "no cluster is available; `cargo xtask deploy` checks its values"),
    ("kustomize edit", "would change the working tree; `cargo xtask deploy` renders with the same program"),
    ("systemctl", "systemd is not available; `tests/fast/systemd_protocols.rs` simulates it"),
    ("apt-get install", "would change the machine; xtask installs its dependencies with the same program"),
    (
        "sudo apt-get install",
        "would change the machine; xtask installs its dependencies with the same program",
    ),
    ("promtool", "the alert tests run it (`alerts/tests/alerts_fire_as_prometheus_would.rs`)"),
    ("grep", PIPE),
    ("jq", PIPE),
    ("head", PIPE),
];
const ENGINE: &str = "no container engine is available; `cargo xtask deploy` parses the file with Compose's own loader and \
                      checks the service names in these commands, `tests/real/compose_services_run.rs` runs the services";
const PIPE: &str = "only filters the output of the previous command";

/// Start timeout of a process, on a machine busy with a build.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How a command is checked.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    Parsed,
    Curl,
    NotRun,
}

/// The class of a command; `None` if it is not known.
fn class(command: &Documented) -> Option<Class> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    match words[..] {
        ["flash-sale", ..] | ["cargo", "xtask", ..] => return Some(Class::Parsed),
        ["cargo", "run", ..] if words.contains(&"--") => return Some(Class::Parsed),
        ["curl", ..] => return Some(Class::Curl),
        _ => {}
    }
    let begins = |start: &str| words.starts_with(&start.split(' ').collect::<Vec<_>>());
    let entry = NOT_RUN.iter().find(|(start, _)| begins(start));
    // A filter must follow a pipe.
    entry.filter(|(_, reason)| *reason != PIPE || command.is_piped).map(|_| Class::NotRun)
}

fn pages() -> Vec<(String, Vec<Documented>)> {
    documents::pages(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn each_command_is_checked_or_has_a_reason() {
    let mut unknown = Vec::new();
    let mut count = 0;
    for (page, commands) in pages() {
        count += commands.len();
        let of_page = commands.iter().filter(|command| class(command).is_none());
        unknown.extend(of_page.map(|command| format!("{page}:{}: {}", command.line, command.text())));
    }
    assert!(count > 25, "only {count} commands were found");
    assert!(unknown.is_empty(), "run them in a test, or add a reason to NOT_RUN:\n{}", unknown.join("\n"));
}

#[test]
fn unknown_commands_are_detected() {
    let of = |line: &str| class(&documents::commands(&format!("```\n{line}\n```"))[0]);
    assert_eq!(of("rm -rf /"), None);
    assert_eq!(of("grep x file"), None, "not after a pipe");
    assert_eq!(of("dockerd"), None, "another program");
    assert_eq!(of("cargo publish"), None);
    assert_eq!(of("docker compose up"), Some(Class::NotRun));
    assert_eq!(of("cargo run --release -- demo"), Some(Class::Parsed));
}

#[test]
fn each_curl_gets_a_response() {
    let (buyers, metrics) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command.args(["serve", "--listen-addr", &buyers, "--metrics-addr", &metrics]);
    let _serve = child::spawn(quiet(command)).expect("the binary starts");
    wait_until("it is healthy", WAIT_MAX, || {
        let mut health = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
        health.args(["health", "--addr", &buyers]);
        quiet(health).status().expect("the binary runs").success()
    });
    let mut count = 0;
    for (page, commands) in pages() {
        for command in commands.iter().filter(|command| class(command) == Some(Class::Curl)) {
            count += 1;
            let here = |word: &String| {
                let places =
                    [("127.0.0.1:8080", &buyers), ("localhost:8080", &buyers), ("localhost:9090", &metrics)];
                places.iter().fold(word.clone(), |word, (there, here)| word.replace(there, here))
            };
            let words = command.words[1..].iter().map(here);
            let output =
                Command::new("curl").args(words).args(["--silent", "--show-error", "--fail"]).output();
            let output = output.unwrap_or_else(|error| panic!("curl: {error}. Remedy: install curl."));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}:{}: {}\n{stderr}", command.line, command.text());
            assert!(!output.stdout.is_empty(), "{page}:{}: an empty response", command.line);
        }
    }
    assert!(count >= 4, "only {count} were found");
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
