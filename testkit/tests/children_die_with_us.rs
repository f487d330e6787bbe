//! Claim: a child dies with the process that started it even when nothing is dropped. Method: this test runs
//! itself as a second process, which starts a `sleep`, tells its pid and is killed with SIGKILL; the `sleep`
//! must then be gone.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{child, wait_until};

#[test]
fn a_killed_parent_leaves_nothing() {
    if std::env::var_os("TESTKIT_PARENT").is_some() {
        return parent();
    }
    let mut command = Command::new(std::env::current_exe().expect("a test knows its own path"));
    command
        .args(["--exact", "a_killed_parent_leaves_nothing", "--nocapture"])
        .env("TESTKIT_PARENT", "1")
        .stdout(Stdio::piped());
    let mut parent = child::spawn(command).expect("this test can be run again");
    let output = parent.child().stdout.take().expect("its output is piped");
    let pid = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("child=").and_then(|(_, pid)| pid.parse::<u32>().ok()))
        .expect("the second process tells the pid of its child");
    assert!(runs(pid), "the child was never there");

    // Only the process itself, not its group; its child leads a group of its own anyway.
    parent.signal(child::Signal::Kill).expect("the second process still runs");
    wait_until("the end of the orphan", Duration::from_secs(10), || !runs(pid));
}

fn parent() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let sleeper = child::spawn(command).expect("sleep is everywhere");
    println!("child={}", sleeper.pid());
    // Until it is killed; returning would drop, and so kill, the child in the ordinary way.
    loop {
        std::thread::park();
    }
}

/// Whether the process exists and is more than a zombie waiting for its new parent.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
