//! Property: a child dies with the process that started it even if nothing is dropped. Method: this test runs itself as
//! a second process, which starts a `sleep`, prints its pid and is killed with SIGKILL; the `sleep` must then be gone.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{child, wait_until};

#[test]
fn killed_parent_leaves_no_child() {
    if std::env::var_os("TESTKIT_PARENT").is_some() {
        return parent();
    }
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command
        .args(["--exact", "killed_parent_leaves_no_child", "--nocapture"])
        .env("TESTKIT_PARENT", "1")
        .stdout(Stdio::piped());
    let mut parent = child::spawn(command).expect("this test can run itself");
    let output = parent.child().stdout.take().expect("its output is piped");
    let pid = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("child=").and_then(|(_, pid)| pid.parse::<u32>().ok()))
        .expect("the second process prints the pid of its child");
    assert!(runs(pid), "the child was not running");

    // Only the process, not its group; its child leads another group anyway.
    parent.signal(child::Signal::Kill).expect("the second process still runs");
    wait_until("the orphan to end", Duration::from_secs(10), || !runs(pid));
}

fn parent() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let sleeper = child::spawn(command).expect("sleep is installed");
    println!("child={}", sleeper.pid());
    // Wait to be killed; returning would drop and thereby kill the child in the normal way.
    loop {
        std::thread::park();
    }
}

/// Whether the process exists and is not a zombie.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
