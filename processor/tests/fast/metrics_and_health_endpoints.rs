//! Property: `/metrics`, `/health` and `/live` respond as the contract says, and the status code of `/health`
//! agrees with its body. Clients that never finish a request delay other clients only briefly and do not
//! block shutdown. Method: raw requests over sockets, with the broker running, stopped and restarted.

use std::time::{Duration, Instant};

use test_processor::{TestProcessor, WAIT_MAX, order};
use testkit::http::Client;
use testkit::wait_until;

use crate::test_processor;

/// Metrics promised by the runbook, with their types.
const RUNBOOK: [(&str, &str); 8] = [
    ("processor_orders_processed_total", "counter"),
    ("processor_orders_processed_success_total", "counter"),
    ("processor_orders_processed_failed_total", "counter"),
    ("processor_orders_sold_out_total", "counter"),
    ("processor_orders_moved_to_dlq_total", "counter"),
    ("processor_order_processing_duration_seconds", "histogram"),
    ("processor_dlq_size", "gauge"),
    ("processor_dlq_oldest_message_age_seconds", "gauge"),
];

#[test]
fn endpoints_respond_as_documented() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.store.set_stock("101", 5);
    test_processor.topics.send(&[order("r", "101", 1)]);
    test_processor.wait_processed(1);
    wait_until("the level of the item", WAIT_MAX, || {
        test_processor.metric("processor_inventory_level{item_id=\"101\"}") == Some(4.0)
    });

    let metrics = test_processor.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("Content-Type").is_some_and(|text| text.starts_with("text/plain; version=0.0.4")));
    for (name, kind) in RUNBOOK {
        assert!(metrics.text().contains(&format!("# TYPE {name} {kind}\n")), "{name} is a {kind}");
    }
    assert!(metrics.text().contains("\nprocessor_order_processing_duration_seconds_count 1\n"));

    let health = test_processor.get("/health");
    assert_eq!((health.status, health.text()), (200, r#"{"status":"healthy","redis":true,"kafka":true}"#));
    assert_eq!(test_processor.get("/health?verbose=1").status, 200, "a query string is ignored");
    assert_eq!(
        (test_processor.get("/live").status, test_processor.get("/live").text()),
        (200, r#"{"status":"live"}"#)
    );
    assert_eq!(test_processor.get("/").status, 404);
    assert_eq!(test_processor.get("/metrics/").status, 404);
}

#[test]
fn other_methods_and_malformed_requests_are_rejected() {
    let test_processor = TestProcessor::new(&[]);
    let mut client = Client::connect(test_processor.running().metrics_addr());
    client.send_raw(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    let refused = client.read_response();
    assert_eq!((refused.status, refused.header("Allow")), (405, Some("GET, HEAD")));
    client.expect_closed();

    let long = "x".repeat(9000);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /live HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        (format!("POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n{long}"), 413),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("GET http://a/live HTTP/1.1\r\nHost: b\r\n\r\n".to_owned(), 200),
        ("GET /l%69ve HTTP/1.1\r\nHost: b\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_owned(), 200),
    ] {
        let mut client = Client::connect(test_processor.running().metrics_addr());
        client.send_raw(request.as_bytes());
        assert_eq!(client.read_response().status, status, "{}", &request[..request.len().min(60)]);
        client.expect_closed();
    }
}

#[test]
fn health_follows_the_broker() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.embedded().go_down();
    wait_until("unhealthy", WAIT_MAX, || !test_processor.running().is_healthy());
    let health = test_processor.get("/health");
    assert_eq!((health.status, health.text()), (503, r#"{"status":"unhealthy","redis":true,"kafka":false}"#));
    assert_eq!(test_processor.get("/live").status, 200, "an unhealthy process is still live");
    test_processor.embedded().come_up();
    wait_until("healthy again", WAIT_MAX, || test_processor.running().is_healthy());
    assert_eq!(test_processor.get("/health").status, 200);
}

#[test]
fn endless_requests_delay_neither_other_clients_nor_shutdown() {
    let mut test_processor = TestProcessor::new(&[]);
    let address = test_processor.running().metrics_addr();
    // More clients than are served concurrently. Each sends a byte per second and never finishes its request.
    let mut drippers: Vec<Client> = (0..40).map(|_| Client::connect(address)).collect();
    let dripping = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_mins(1);
        while Instant::now() < end && !drippers.is_empty() {
            drippers.retain_mut(|client| client.try_send_raw(b"G").is_ok());
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let mut client = Client::connect(address);
    client.read_timeout(Duration::from_secs(30));
    assert_eq!(client.get("/metrics").status, 200);
    let start = Instant::now();
    test_processor.stop(Duration::from_secs(5));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?} to stop", start.elapsed());
    dripping.join().expect("the slow clients end when the process closes its sockets");
}
