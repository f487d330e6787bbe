//! Claim: an event loop that is blocked shows in the metrics while it is blocked, and once in the log; beyond
//! `EVENT_LOOP_STALL_EXIT` the process ends with a line that says so. SIGSTOP and SIGCONT are no stall.
//! Method: a real gateway of two cores, one of them blocked by `fault-points`, the other one asked.

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
fn it_is_seen_while_it_lasts() {
    let world = World::new();
    let variables = [("WORKERS", "2"), ("LOG_LEVEL", "warn")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::piped(), Stdio::null());
    gateway.wait_health(200);
    let mut log = gateway.child().stdout.take().expect("its pipe");
    // Few connections are shared out: of two, each core has one. One that has just been closed still counts for a moment.
    let mut first = Client::connect(gateway.address().as_str());
    wait_until("only the first is open", WAIT_MAX, || {
        first.get("/metrics").text().lines().any(|line| line == "gateway_connections 1")
    });
    let mut clients = [first, Client::connect(gateway.address().as_str())];
    assert_eq!(clients[1].get("/live").status, 200);
    let [asked, blocked] = &mut clients;
    wait_until("each core has one", WAIT_MAX, || {
        let page = asked.get("/metrics").text().to_owned();
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
    wait_until("the stall shows", Duration::from_millis(2500), || {
        longest(asked.get("/metrics").text()) > 0.2
    });
    // Its answer comes when it has ended: it was seen before.
    blocked.read_timeout(Duration::from_secs(20));
    // Its core's connection to Redis may have been given up meanwhile.
    assert!(matches!(blocked.read_response().status, 202 | 503));
    let page = asked.get("/metrics").text().to_owned();
    assert!((1.0..4.0).contains(&longest(&page)), "{page}");
    drop(clients);
    assert_eq!(gateway.terminate(), Some(0));
    let mut text = String::new();
    log.read_to_string(&mut text).expect("its log");
    let stalls = page.lines().find_map(|line| line.strip_prefix("gateway_event_loop_stalls_total "));
    let stalls: usize = stalls.and_then(|value| value.parse().ok()).expect("a number");
    // A busy machine may add one of its own at the end.
    assert!(
        stalls >= 1 && (stalls..=stalls + 1).contains(&text.matches("event_loop_blocked").count()),
        "{text}"
    );
}

#[test]
fn beyond_the_bound_the_process_ends() {
    let world = World::new();
    let variables = [("WORKERS", "2"), ("EVENT_LOOP_STALL_EXIT", "2s")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::null(), Stdio::piped());
    gateway.wait_health(200);
    let mut said = gateway.child().stderr.take().expect("its pipe");
    // A stop of the whole process is none of the event loop's.
    gateway.signal(Signal::Stop);
    std::thread::sleep(Duration::from_secs(3));
    gateway.signal(Signal::Continue);
    gateway.wait_health(200);

    let mut client = Client::connect(gateway.address().as_str());
    block(&mut client, 600_000);
    wait_until("it has ended", WAIT_MAX, || gateway.ended());
    assert_eq!(gateway.wait().code(), Some(1));
    let mut text = String::new();
    said.read_to_string(&mut text).expect("what it said");
    assert!(text.contains("event loop gateway-") && text.contains("EVENT_LOOP_STALL_EXIT"), "{text}");
}
