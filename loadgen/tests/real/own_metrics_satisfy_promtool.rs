//! Property: during a run, the generator serves its own metrics at the configured address; they increase with
//! the run, promtool accepts them, and other requests are rejected.
//!
//! Method: a run of one second against a correct target; the page is read at every progress update.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use loadgen::RunError;
use loadgen::progress::{Moment, Progress, Quiet};
use target::Target;

use crate::target;

fn get(address: SocketAddr, request: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP/1.1 response");
    Ok((head.to_owned(), body.to_owned()))
}

/// Reads the page at every progress update.
struct Reader {
    address: SocketAddr,
    pages: Arc<Mutex<Vec<String>>>,
}

impl Progress for Reader {
    fn update(&mut self, _: &Moment) {
        if let Ok((head, body)) = get(self.address, "GET /metrics") {
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            self.pages.lock().expect("nobody panicked").push(body);
        }
    }

    fn done(&mut self) {
        let (head, _) = get(self.address, "GET /other").expect("it is served to the end");
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        let (head, _) = get(self.address, "POST /metrics").expect("it is served to the end");
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nAllow: GET\r\n"), "{head}");
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} in {page}")).parse().expect("a number")
}

#[test]
fn the_metrics_increase_with_the_run() {
    let target = Target::honest();
    let mut plan = target.plan();
    plan.rate_per_s = 300;
    plan.metrics_addr = Some(free_address());
    let pages = Arc::new(Mutex::new(Vec::new()));
    let reader = Reader { address: plan.metrics_addr.expect("just set"), pages: Arc::clone(&pages) };
    let report = loadgen::run(&plan, &target.audit(), reader, &Arc::default()).expect("it can be run");
    assert_eq!(report.requests, 300);
    let pages = pages.lock().expect("nobody panicked");
    let (first, last) = (pages.first().expect("a page"), pages.last().expect("a page"));
    let sent = |page| value(page, "loadgen_requests_sent_total");
    assert!(sent(first) < sent(last), "{} to {}", sent(first), sent(last));
    for (series, expected) in [
        ("loadgen_requests_sent_total", "300"),
        ("loadgen_requests_total{outcome=\"202\"}", "300"),
        ("loadgen_latency_seconds_count", "300"),
        ("loadgen_lateness_seconds_count", "300"),
        ("loadgen_in_flight", "0"),
        ("loadgen_asked_rate", "300"),
    ] {
        assert!(last.contains(&format!("\n{series} {expected}\n")), "{series} in {last}");
    }
    assert!(TcpStream::connect(plan.metrics_addr.expect("set above")).is_err(), "it ends with the run");

    let program = std::env::var_os("TEST_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut promtool = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (package prometheus)");
    promtool.stdin.take().expect("piped").write_all(last.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{last}");
}

#[test]
fn with_a_used_address_the_run_does_not_start() {
    let target = Target::honest();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut plan = target.plan();
    plan.metrics_addr = Some(taken.local_addr().expect("bound"));
    let result = loadgen::run(&plan, &target.audit(), Quiet, &Arc::default());
    let Err(error @ RunError::Endpoint { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains(&taken.local_addr().expect("bound").to_string()), "{error}");
    assert_eq!(target.received(), 0);
}
