//! Property: a process exits within `SHUTDOWN_TIMEOUT` plus a fixed slack after SIGTERM, whatever hangs: an unread standard
//! output, a stopped Redis or Kafka, or a core that never returns. In the first three cases the shutdown is orderly; in the
//! last case the watchdog ends the process, with a non-zero code and a message that names the thread. A second signal
//! shortens the drain; a third one exits at once.
//! Method: real processes, real services, SIGSTOP, and a blocked event loop by `fault-points`.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use process::{WAIT_MAX, World, order};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

/// `SLACK` of src/signals.rs, plus 3 s for a busy machine.
const SLACK: Duration = Duration::from_secs(8 + 3);

fn buy(number: usize) -> String {
    format!(r#"{{"user_id":"u{number}","item_id":"101","amount":1,"request_id":"r-{number}"}}"#)
}

#[test]
fn unread_standard_output_does_not_block_shutdown() {
    let world = World::new();
    // The pipe is never read.
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
fn stopped_redis_does_not_block_shutdown() {
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
fn stopped_kafka_does_not_block_shutdown() {
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
fn watchdog_exits_and_names_a_core_that_never_returns() {
    let world = World::new();
    let variables = [("WORKERS", "1"), ("SHUTDOWN_TIMEOUT", "1s"), ("EVENT_LOOP_STALL_EXIT", "10m")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::null(), Stdio::piped());
    gateway.wait_health(200);
    let mut client = Client::connect(gateway.address().as_str());
    client.send_raw(&client.buy_request(&buy(1), &[("X-Correlation-ID", "fault-block-read-600000")]));
    wait_until("the core is blocked", WAIT_MAX, || gateway.has_event_loop_blocked());
    let mut stderr = gateway.child().stderr.take().expect("a pipe");
    let begun = Instant::now();
    gateway.signal(Signal::Terminate);
    assert_eq!(gateway.wait().code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
    let mut text = String::new();
    stderr.read_to_string(&mut text).expect("its standard error");
    assert_eq!(text.lines().filter(|line| line.contains("gateway-0")).count(), 1, "{text}");
}

#[test]
fn second_signal_shortens_the_drain_and_third_exits_at_once() {
    let world = World::new();
    world.store.set_stock("101", 1);
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
            // A different signal: the kernel merges equal signals that are still pending.
            processor.signal(Signal::Interrupt);
        }
        let code = processor.wait().code();
        let took = begun.elapsed();
        if signals == 2 {
            assert_eq!(code, Some(1), "the exit code reports the unfinished order");
            assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
        } else {
            assert!(matches!(code, Some(130 | 143)), "{code:?}");
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
    }
}

#[test]
fn second_signal_ends_the_shutdown_delay() {
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
