//! Claim: each command that our documents tell a reader to type works, or is named here with the reason why it is not run
//! here. Method: commands of the binary are parsed whole by its own command line (`src/documented_commands.rs`), those of
//! xtask by xtask's (`xtask/src/main.rs`); each `curl` runs here, word for word but for the port, against a real `serve`;
//! all others must be in the table below.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::documents::{self, Documented};
use testkit::{child, free_port, wait_until};

/// Begins with these words, and why it is not run here.
const NOT_HERE: &[(&str, &str)] = &[
    (
        "cargo build --release",
        "a build would wait for the one that runs this test; `cargo xtask ci` makes the same one",
    ),
    ("cargo install --path .", "the same build once more; the archive of `cargo xtask dist` is made of it"),
    ("cargo test", "this is one of its tests"),
    (". .services/env", "reads what `cargo xtask up --env` writes while it runs"),
    ("docker compose", ENGINE),
    ("docker-compose", ENGINE),
    ("docker", ENGINE),
    (
        "kubectl",
        "no cluster is here; `cargo xtask deploy` renders the manifests and reads them by the types of Kubernetes",
    ),
    ("helm", "no cluster is here; `cargo xtask deploy` checks the values it is given"),
    ("kustomize edit", "would change the tree; `cargo xtask deploy` renders with the same program"),
    ("systemctl", "no systemd is here; `tests/fast/systemd_protocols.rs` plays its part"),
    ("apt-get install", "would change the machine; xtask installs what it needs by the same program"),
    ("sudo apt-get install", "would change the machine; xtask installs what it needs by the same program"),
    ("promtool", "the tests of the alerts run it (`loadgen/tests/real/alerts_fire_as_prometheus_would.rs`)"),
    ("grep", PIPE),
    ("jq", PIPE),
    ("head", PIPE),
];
const ENGINE: &str = "no container engine is here; `cargo xtask deploy` reads the file by Compose's own loader and the names of \
                      the services in these commands, `tests/real/compose_services_run.rs` runs the services";
const PIPE: &str = "only looks at what the command before it prints";

/// For a process to start, on a machine that builds.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    Parsed,
    Curl,
    NotHere,
}

/// `None`: nobody has said.
fn class(command: &Documented) -> Option<Class> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    match words[..] {
        ["flash-sale", ..] | ["cargo", "xtask", ..] => return Some(Class::Parsed),
        ["cargo", "run", ..] if words.contains(&"--") => return Some(Class::Parsed),
        ["curl", ..] => return Some(Class::Curl),
        _ => {}
    }
    let begins = |start: &str| words.starts_with(&start.split(' ').collect::<Vec<_>>());
    let entry = NOT_HERE.iter().find(|(start, _)| begins(start));
    // To look at a pipe takes one.
    entry.filter(|(_, reason)| *reason != PIPE || command.is_piped).map(|_| Class::NotHere)
}

fn pages() -> Vec<(String, Vec<Documented>)> {
    documents::pages(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn each_command_is_run_or_has_its_reason() {
    let mut unknown = Vec::new();
    let mut count = 0;
    for (page, commands) in pages() {
        count += commands.len();
        let of_page = commands.iter().filter(|command| class(command).is_none());
        unknown.extend(of_page.map(|command| format!("{page}:{}: {}", command.line, command.text())));
    }
    assert!(count > 25, "only {count} commands were found");
    assert!(
        unknown.is_empty(),
        "run them in a test, or give the reason in NOT_HERE:\n{}",
        unknown.join("\n")
    );
}

#[test]
fn a_command_of_no_class_is_found() {
    let of = |line: &str| class(&documents::commands(&format!("```\n{line}\n```"))[0]);
    assert_eq!(of("rm -rf /"), None);
    assert_eq!(of("grep x file"), None, "not behind a pipe");
    assert_eq!(of("dockerd"), None, "another word");
    assert_eq!(of("cargo publish"), None);
    assert_eq!(of("docker compose up"), Some(Class::NotHere));
    assert_eq!(of("cargo run --release -- demo"), Some(Class::Parsed));
}

#[test]
fn each_curl_gets_its_answer() {
    let (buyers, metrics) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command.args(["serve", "--listen-addr", &buyers, "--metrics-addr", &metrics]);
    let _house = child::spawn(quiet(command)).expect("the binary starts");
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
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}:{}: {}\n{said}", command.line, command.text());
            assert!(!output.stdout.is_empty(), "{page}:{}: an empty answer", command.line);
        }
    }
    assert!(count >= 4, "only {count} were found");
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
