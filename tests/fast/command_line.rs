//! Property: the command line works for scripts, shells and packages: `health` reports by its exit code, completions and man
//! pages contain every subcommand, and every `--help` shows examples. Method: the binary runs as a process; shells and
//! groff validate its output.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testkit::child::{self, Guarded};
use testkit::{TempDir, free_port, wait_until};

/// Start timeout of a process, on a machine busy with a build.
const WAIT_MAX: Duration = Duration::from_mins(1);

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flash-sale")).args(words).output().expect("the binary runs")
}

fn stdout(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn start(words: &[&str]) -> Guarded {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child::spawn(command).expect("the binary starts")
}

/// The subcommands listed by `--help`, except `help` itself.
fn subcommands(words: &[&str]) -> Vec<String> {
    let help = stdout(&[words, &["--help"]].concat());
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let names = list.lines().take_while(|line| !line.is_empty());
    // Wrapped lines of a long description are indented further.
    let names = names.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn health_reports_by_exit_code() {
    let (buyers, metrics) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let unreachable = run(&["health", "--addr", &buyers]);
    assert_eq!(unreachable.status.code(), Some(1));
    let reason = stderr(&unreachable);
    assert!(reason.contains(&format!("GET /health of {buyers}: ")) && reason.contains("refused"), "{reason}");

    let _serve = start(&["serve", "--listen-addr", &buyers, "--metrics-addr", &metrics]);
    for address in [&buyers, &metrics] {
        wait_until("it is healthy", WAIT_MAX, || run(&["health", "--addr", address]).status.success());
        assert!(stdout(&["health", "--addr", address]).contains("\"status\":\"healthy\""));
    }
}

#[test]
fn gateway_without_redis_and_kafka_is_live_but_unhealthy() {
    let address = format!("127.0.0.1:{}", free_port());
    let (redis, kafka) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let _gateway =
        start(&["gateway", "--listen-addr", &address, "--redis-addr", &redis, "--kafka-addr", &kafka]);
    wait_until("it is live", WAIT_MAX, || run(&["health", "--live", "--addr", &address]).status.success());
    let unhealthy = run(&["health", "--addr", &address]);
    assert_eq!(unhealthy.status.code(), Some(1));
    let body = String::from_utf8_lossy(&unhealthy.stdout);
    assert!(body.contains("\"status\":\"unhealthy\"") && body.contains("\"redis\":false"), "{body}");
}

#[test]
fn invalid_timeout_is_rejected_and_valid_one_is_applied() {
    for wrong in ["2", "soon", "0s", "-1s", ""] {
        let output = run(&["health", "--timeout", wrong]);
        assert!([Some(64), Some(2)].contains(&output.status.code()), "{wrong:?}: {:?}", output.status);
        assert!(stderr(&output).contains("--timeout") || wrong.starts_with('-'), "{}", stderr(&output));
    }
    // It accepts the connection but does not respond.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let begun = Instant::now();
    let output = run(&["health", "--addr", &address, "--timeout", "200ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("timed out"), "{}", stderr(&output));
    assert!((Duration::from_millis(200)..WAIT_MAX).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn completions_are_valid_and_contain_every_subcommand() {
    let names = subcommands(&[]);
    assert!(names.len() >= 10, "{names:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completions", shell]);
        for name in &names {
            assert!(script.contains(name.as_str()), "{name} is not in the completions of {shell}");
        }
        for nested in ["rebuild", "replay"] {
            assert!(script.contains(nested), "{nested} is not in the completions of {shell}");
        }
    }
    assert_eq!(run(&["completions", "cobol"]).status.code(), Some(2));
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-n"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut bash = bash.spawn().expect("bash is installed");
    bash.stdin
        .take()
        .expect("piped")
        .write_all(stdout(&["completions", "bash"]).as_bytes())
        .expect("it reads its input");
    let output = bash.wait_with_output().expect("it exits");
    assert!(output.status.success(), "{}", stderr(&output));
    // Simulates the Tab key after `flash-sale h`.
    let ask = "source /dev/stdin; COMP_WORDS=(flash-sale h); COMP_CWORD=1; _flash__sale flash-sale h flash-sale; \
               echo ${COMPREPLY[@]}";
    let mut tab = Command::new("bash");
    tab.args(["--norc", "-c", ask]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tab = tab.spawn().expect("bash is installed");
    tab.stdin
        .take()
        .expect("piped")
        .write_all(stdout(&["completions", "bash"]).as_bytes())
        .expect("it reads its input");
    let output = tab.wait_with_output().expect("it exits");
    let shown = String::from_utf8_lossy(&output.stdout);
    let shown: BTreeSet<&str> = shown.split_whitespace().collect();
    assert_eq!(shown, ["health", "help"].into(), "{}", stderr(&output));
}

#[test]
fn each_subcommand_has_a_man_page() {
    let dir = TempDir::new("man");
    let path = dir.path().to_str().expect("UTF-8");
    stdout(&["man", "--dir", path]);
    let mut wanted = BTreeSet::from(["flash-sale.1".to_owned()]);
    for name in subcommands(&[]) {
        wanted.extend(subcommands(&[&name]).iter().map(|nested| format!("flash-sale-{name}-{nested}.1")));
        wanted.insert(format!("flash-sale-{name}.1"));
    }
    let entries = fs::read_dir(dir.path()).expect("the folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let found: BTreeSet<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    assert_eq!(found, wanted);
    for page in &found {
        let text = fs::read_to_string(dir.path().join(page)).expect("a page");
        assert!(text.contains("\n.TH flash-sale") && text.contains("\n.SH NAME\n"), "{page}: {text}");
    }
    let first = stdout(&["man"]);
    assert_eq!(first, fs::read_to_string(dir.path().join("flash-sale.1")).expect("the first page"));
    let blocked = dir.path().join("flash-sale.1/more");
    let refused = run(&["man", "--dir", blocked.to_str().expect("UTF-8")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("give a writable directory"), "{}", stderr(&refused));
    check_with_groff(&first);
}

/// If groff is installed (it comes with `man`), it must not print warnings.
fn check_with_groff(page: &str) {
    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tutf8", "-ww"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut groff) = groff.spawn() else { return };
    groff.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads its input");
    let output = groff.wait_with_output().expect("it exits");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("flash-sale-gateway(1)"));
}

#[test]
fn every_help_shows_examples() {
    for name in subcommands(&[]) {
        let help = stdout(&[&name, "--help"]);
        assert!(help.contains("Example") && help.contains(&format!("  flash-sale {name}")), "{help}");
        // Examples of nested subcommands may be in the help of the parent.
        for nested in subcommands(&[&name]) {
            let nested_help = stdout(&[&name, &nested, "--help"]);
            let example = format!("flash-sale {name} {nested}");
            assert!(
                nested_help.matches(&example).count() > 1 || help.contains(&example),
                "no example of {example}"
            );
        }
    }
}
