//! Claim: a process that is told to end does end, within `SHUTDOWN_TIMEOUT` and a stated slack, whatever hangs: a standard
//! output that nobody reads, a Redis or a Kafka that is stopped, a core that never returns. The first three end it in
//! order; the last one by the watchdog, with a non-zero code and a line that names the thread. A second signal shortens
//! the drain instead of ending at once, a third one ends at once.
//! Method: real processes, real services, SIGSTOP, and a blocked event loop by `fault-points`.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use process::{WAIT_MAX, World, order};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

/// `SLACK` of src/signals.rs, and what a busy machine adds.
const SLACK: Duration = Duration::from_secs(8 + 3);

fn buy(number: usize) -> String {
    format!(r#"{{"user_id":"u{number}","item_id":"101","amount":1,"request_id":"r-{number}"}}"#)
}

#[test]
fn an_output_that_nobody_reads() {
    let world = World::new();
    // Its pipe is never read.
    let mut gateway = world.start_with("gateway", &[("LOG_LEVEL", "info")], Stdio::piped(), Stdio::null());
    gateway.wait_health(200);
    let mut client = Client::connect(gateway.address().as_str());
    // A line is about 250 bytes; the pipe holds 64 KiB.
    for batch in 0..10 {
        let orders = batch * 50..(batch + 1) * 50;
        let requests: Vec<u8> =
            orders.clone().flat_map(|number| client.buy_request(&buy(number), &[])).collect();
        client.send_raw(&requests);
        for _ in orders {
            assert_eq!(client.read_response().status, 202);
        }
    }
    drop(client);
    let begun = Instant::now();
    gateway.signal(Signal::Terminate);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_redis_that_is_stopped() {
    let mut world = World::new();
    let variables = [("SHUTDOWN_TIMEOUT", "1s")];
    let (gateway, processor) = (world.start_gateway(&variables), world.start(&variables));
    gateway.wait_health(200);
    processor.wait_health(200);
    world.pause_redis();
    for mut process in [gateway, processor] {
        let begun = Instant::now();
        process.signal(Signal::Terminate);
        process.wait();
        assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    }
    world.resume_redis();
}

#[test]
fn a_kafka_that_is_stopped() {
    let (world, mut kafka) = World::with_private_kafka();
    let variables = [("SHUTDOWN_TIMEOUT", "1s")];
    let (gateway, processor) = (world.start_gateway(&variables), world.start(&variables));
    gateway.wait_health(200);
    processor.wait_health(200);
    kafka.pause();
    for mut process in [gateway, processor] {
        let begun = Instant::now();
        process.signal(Signal::Terminate);
        process.wait();
        assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    }
    kafka.resume();
}

#[test]
fn a_core_that_never_returns_is_named_and_left_behind() {
    let world = World::new();
    let variables = [("WORKERS", "1"), ("SHUTDOWN_TIMEOUT", "1s"), ("EVENT_LOOP_STALL_EXIT", "10m")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::null(), Stdio::piped());
    gateway.wait_health(200);
    let mut client = Client::connect(gateway.address().as_str());
    client.send_raw(&client.buy_request(&buy(1), &[("X-Correlation-ID", "fault-block-read-600000")]));
    wait_until("the core is blocked", WAIT_MAX, || gateway.has_event_loop_blocked());
    let mut said = gateway.child().stderr.take().expect("its pipe");
    let begun = Instant::now();
    gateway.signal(Signal::Terminate);
    assert_eq!(gateway.wait().code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    let mut text = String::new();
    said.read_to_string(&mut text).expect("what it said");
    assert_eq!(text.lines().filter(|line| line.contains("gateway-0")).count(), 1, "{text}");
}

#[test]
fn a_second_signal_shortens_the_drain_and_a_third_ends_at_once() {
    let world = World::new();
    world.truth.set_stock("101", 1);
    world.topics.send(&[order("slow", "101", 1)]);
    let variables = [("PAYMENT_LATENCY", "10m"), ("PAYMENT_TIMEOUT", "10m"), ("SHUTDOWN_TIMEOUT", "10m")];
    for signals in [2, 3] {
        let mut processor = world.start(&variables);
        processor.wait_paying(1);
        processor.wait_health(200);
        processor.signal(Signal::Terminate);
        processor.wait_health(503);
        let begun = Instant::now();
        processor.signal(Signal::Terminate);
        if signals == 3 {
            // Another one: of two equal signals that are not taken yet the kernel keeps one.
            processor.signal(Signal::Interrupt);
        }
        let code = processor.wait().code();
        let took = begun.elapsed();
        if signals == 2 {
            assert_eq!(code, Some(1), "the order is left behind, and said");
            assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
        } else {
            assert!(matches!(code, Some(130 | 143)), "{code:?}");
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
    }
}

#[test]
fn a_second_signal_ends_the_delay() {
    let world = World::new();
    let mut gateway = world.start_gateway(&[("SHUTDOWN_DELAY", "10m")]);
    gateway.wait_health(200);
    gateway.signal(Signal::Terminate);
    gateway.wait_health(503);
    let begun = Instant::now();
    gateway.signal(Signal::Interrupt);
    assert_eq!(gateway.wait().code(), Some(0), "nothing was in flight");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
