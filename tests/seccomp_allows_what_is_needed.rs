//! Property: under `deploy/seccomp.json` the binary runs on `io_uring`, processes an order and stops cleanly; without the
//! system calls of `io_uring` it runs on epoll and reports that. Method: the names in the file become a filter that a child
//! process installs before it executes `flash-sale serve`.

// The filter is installed between fork and exec.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};
use testkit::child::{self, Guarded, Signal};
use testkit::http::Client;
use testkit::{free_port, wait_until};

const WAIT_MAX: Duration = Duration::from_secs(30);
const RING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// The system calls that the committed file allows.
fn allowed() -> Vec<String> {
    let text = include_str!("../deploy/seccomp.json");
    let profile: Value = serde_json::from_str(text).expect("the profile is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "calls that are not listed are denied");
    let groups = profile["syscalls"].as_array().expect("groups of system calls");
    let names = |group: &Value| -> Vec<String> {
        assert_eq!(group["action"], "SCMP_ACT_ALLOW");
        let names = group["names"].as_array().expect("names");
        names.iter().map(|name| name.as_str().expect("a string").to_owned()).collect()
    };
    groups.iter().flat_map(names).collect()
}

fn program(names: &[String]) -> BpfProgram {
    let calls: Vec<Value> = names.iter().map(|name| json!({ "syscall": name })).collect();
    let filter = json!({
        "serve": { "mismatch_action": { "errno": 1 }, "match_action": "allow", "filter": calls }
    });
    let arch =
        TargetArch::try_from(std::env::consts::ARCH).expect("an architecture that the filter supports");
    let mut programs =
        compile_from_json(filter.to_string().as_bytes(), arch).expect("every name is a system call");
    programs.remove("serve").expect("the program named above")
}

struct Serve {
    process: Guarded,
    gateway: String,
}

fn serve(program: BpfProgram) -> Serve {
    let [gateway, metrics] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .args(["serve", "--listen-addr", &gateway, "--metrics-addr", &metrics])
        // Even if the environment names servers.
        .args(["--redis-addr", "embedded", "--kafka-addr", "embedded"])
        .env("PAYMENT_FAILURE_RATE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let filter = move || apply_filter(&program).map_err(|error| std::io::Error::other(error.to_string()));
    // SAFETY: between fork and exec only prctl(2) and seccomp(2) are called, on memory that was prepared before.
    unsafe { command.pre_exec(filter) };
    let process = child::spawn(command).expect("it starts under the filter");
    Serve { process, gateway }
}

/// Checks health, an order up to its final status, the IO driver, and a clean shutdown.
fn runs_on(driver: &str, names: &[String]) {
    let mut serve = serve(program(names));
    wait_until("it is healthy", WAIT_MAX, || {
        let exited = serve.process.ended();
        assert!(exited.is_none(), "exited with {exited:?}");
        std::net::TcpStream::connect(&serve.gateway).is_ok()
            && Client::connect(serve.gateway.as_str())
                .try_get("/health")
                .is_some_and(|response| response.status == 200)
    });
    let mut client = Client::connect(serve.gateway.as_str());
    let order = r#"{"user_id":"u1","item_id":"101","amount":1,"request_id":"r-1"}"#;
    assert_eq!(client.post_buy(order, &[]).status, 202);
    wait_until("the order has its final status", WAIT_MAX, || {
        client.get("/orders/r-1").text().contains("COMPLETED")
    });
    let page = client.get("/metrics").text().to_owned();
    let cores = |name: &str| {
        let wanted = format!("gateway_io_driver{{driver=\"{name}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(wanted.as_str()));
        line.expect("both drivers are on the page").parse::<f64>().expect("a number")
    };
    let other = if driver == "epoll" { "io_uring" } else { "epoll" };
    assert!(cores(driver) >= 1.0 && cores(other) == 0.0, "{page}");
    serve.process.signal(Signal::Terminate).expect("it is still running");
    let status = serve.process.wait().expect("it exits");
    assert!(status.success(), "{status}");
}

#[test]
fn profile_allows_io_uring() {
    let names = allowed();
    assert!(RING.iter().all(|call| names.iter().any(|name| name == call)));
    runs_on("io_uring", &names);
}

#[test]
fn epoll_is_used_without_io_uring() {
    let names: Vec<String> = allowed().into_iter().filter(|name| !RING.contains(&name.as_str())).collect();
    runs_on("epoll", &names);
}
