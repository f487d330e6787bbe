//! Property: a blocked event loop is visible in the metrics while it is blocked, and is logged once; beyond
//! `EVENT_LOOP_STALL_EXIT` the process exits with a message that says so. SIGSTOP and SIGCONT do not count as a stall.
//! Method: a real gateway with two cores; `fault-points` blocks one of them, the other one is queried.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use process::{WAIT_MAX, World};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

fn block(client: &mut Client, ms: u64) {
    let order = r#"{"user_id":"u","item_id":"101","amount":1,"request_id":"r"}"#;
    let fault = format!("fault-block-read-{ms}");
    client.send_raw(&client.buy_request(order, &[("X-Correlation-ID", fault.as_str())]));
}

#[test]
fn stall_is_reported_while_it_lasts() {
    let world = World::new();
    let variables = [("WORKERS", "2"), ("LOG_LEVEL", "warn")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::piped(), Stdio::null());
    gateway.wait_health(200);
    let mut log = gateway.child().stdout.take().expect("a pipe");
    // The gateway distributes few connections evenly: of two, each core gets one. A closed one still counts for a moment.
    let mut first = Client::connect(gateway.address().as_str());
    wait_until("only the first is open", WAIT_MAX, || {
        first.get("/metrics").text().lines().any(|line| line == "gateway_connections 1")
    });
    let mut clients = [first, Client::connect(gateway.address().as_str())];
    assert_eq!(clients[1].get("/live").status, 200);
    let [idle, blocked] = &mut clients;
    wait_until("each core has one", WAIT_MAX, || {
        let page = idle.get("/metrics").text().to_owned();
        page.lines()
            .filter(|line| line.starts_with("gateway_core_connections{") && line.ends_with(" 1"))
            .count()
            == 2
    });
    block(blocked, 3000);
    let longest = |page: &str| -> f64 {
        let values =
            page.lines().filter(|line| line.starts_with("gateway_event_loop_longest_stall_seconds{"));
        values.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).fold(0.0, f64::max)
    };
    wait_until("the metrics show the stall", Duration::from_millis(2500), || {
        longest(idle.get("/metrics").text()) > 0.2
    });
    // The response arrives when the stall has ended, so the metrics showed it earlier.
    blocked.read_timeout(Duration::from_secs(20));
    // The core may have dropped its connection to Redis meanwhile.
    assert!(matches!(blocked.read_response().status, 202 | 503));
    let page = idle.get("/metrics").text().to_owned();
    assert!((1.0..4.0).contains(&longest(&page)), "{page}");
    drop(clients);
    assert_eq!(gateway.terminate(), Some(0));
    let mut text = String::new();
    log.read_to_string(&mut text).expect("the log");
    let stalls = page.lines().find_map(|line| line.strip_prefix("gateway_event_loop_stalls_total "));
    let stalls: usize = stalls.and_then(|value| value.parse().ok()).expect("a number");
    // A busy machine may cause one more stall at the end.
    assert!(
        stalls >= 1 && (stalls..=stalls + 1).contains(&text.matches("event_loop_blocked").count()),
        "{text}"
    );
}

#[test]
fn process_exits_beyond_the_stall_limit() {
    let world = World::new();
    let variables = [("WORKERS", "2"), ("EVENT_LOOP_STALL_EXIT", "2s")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::null(), Stdio::piped());
    gateway.wait_health(200);
    let mut stderr = gateway.child().stderr.take().expect("a pipe");
    // Stopping the whole process is not a stall of the event loop.
    gateway.signal(Signal::Stop);
    std::thread::sleep(Duration::from_secs(3));
    gateway.signal(Signal::Continue);
    gateway.wait_health(200);

    let mut client = Client::connect(gateway.address().as_str());
    block(&mut client, 600_000);
    wait_until("it has exited", WAIT_MAX, || gateway.has_exited());
    assert_eq!(gateway.wait().code(), Some(1));
    let mut text = String::new();
    stderr.read_to_string(&mut text).expect("its standard error");
    assert!(text.contains("event loop gateway-") && text.contains("EVENT_LOOP_STALL_EXIT"), "{text}");
}
