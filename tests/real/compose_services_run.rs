//! Property: the services work as `docker-compose.yml` starts them: their health commands report healthy, an order gets a
//! final status, and each service exits with 0 within its grace period. With two gateways and three processors behind the
//! edge, one gateway may stop while orders arrive. Method: the commands and variables of the file as plain processes on a
//! real Redis and a real Kafka, and a real haproxy with the edge's configuration, in which only addresses and the number of
//! connections differ.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use compose::{Project, Service, WAIT_MAX, order, status};
use testkit::child::{self, Guarded, Signal};
use testkit::http::{Client, Response};
use testkit::{TempDir, free_port, wait_until};

use crate::compose;

/// Concurrent buyers, each with a persistent connection.
const BUYERS: usize = 8;
/// Orders that must be accepted before the gateway is stopped, and after it has stopped.
const ORDERS: usize = 200;
/// How long a buyer retries; the edge checks its gateways twice a second.
const RETRIES: Duration = Duration::from_secs(5);

#[test]
fn order_gets_a_final_status_and_services_stop_in_time() {
    let project = Project::new();
    project.stock(&["set", "101", "5"]);
    let (processor, gateway) = (project.start("processor"), project.start("gateway"));
    gateway.wait_healthy();
    processor.wait_healthy();
    let response = Client::connect(gateway.address()).post_buy(&order("u1", "r-1"), &[]);
    assert_eq!(response.status, 202, "{}", response.text());
    wait_until("the order has its final status", WAIT_MAX, || status(&gateway.address(), "r-1") != "PENDING");
    // With the seed of the file one payment in ten fails; this one may or may not.
    let final_status = status(&gateway.address(), "r-1");
    assert!(["COMPLETED", "FAILED_PAYMENT"].contains(&final_status.as_str()), "{final_status}");
    gateway.stop();
    processor.stop();
}

#[test]
fn no_order_is_lost_when_a_gateway_behind_the_edge_stops() {
    let project = Project::new();
    project.stock(&["set", "101", "1000000"]);
    let processors: Vec<Service> = (0..3).map(|_| project.start("processor")).collect();
    let first = project.start("gateway");
    let second = project.start("gateway");
    let mut edge = Edge::start([first.port, second.port], &processors);
    first.wait_healthy();
    second.wait_healthy();
    processors.iter().for_each(Service::wait_healthy);
    edge.wait_ready();

    let accepted = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let (address, accepted, is_over) = (edge.address(), &accepted, &is_over);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let buy = |buyer| move || Buyer::new(address, buyer).buy(accepted, is_over);
        let buyers: Vec<_> = (0..BUYERS).map(|buyer| scope.spawn(buy(buyer))).collect();
        let wait_accepted = |count: usize| {
            wait_until(&format!("{count} orders are accepted"), WAIT_MAX, || {
                accepted.load(Ordering::Relaxed) >= count
            });
        };
        wait_accepted(ORDERS);
        // Both get orders: the edge sends connections to the gateway with the fewest.
        for gateway in [&first, &second] {
            wait_until("each gateway accepts orders", WAIT_MAX, || {
                gateway.metric("gateway_orders_successful_total") > 0.0
            });
        }
        first.stop();
        wait_accepted(accepted.load(Ordering::Relaxed) + ORDERS);
        is_over.store(true, Ordering::Relaxed);
        buyers.into_iter().flat_map(|buyer| buyer.join().expect("no buyer was refused")).collect()
    });
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    for id in &ids {
        wait_until(&format!("{id} has its final status"), WAIT_MAX, || status(address, id) != "PENDING");
    }
    let page = Client::connect(edge.metrics.as_str()).get("/metrics");
    assert!(
        page.text().contains("\nprocessor_orders_processed_total "),
        "a processor's page: {}",
        page.text()
    );

    second.stop();
    processors.into_iter().for_each(Service::stop);
    edge.stop();
}

/// A buyer with a persistent connection, who sends one order after another.
struct Buyer<'a> {
    edge: &'a str,
    client: Option<Client>,
    name: String,
}

impl<'a> Buyer<'a> {
    fn new(edge: &'a str, number: usize) -> Self {
        Self { edge, client: None, name: format!("u{number}") }
    }

    /// Sends orders until `is_over`; returns the accepted ids.
    fn buy(mut self, accepted: &AtomicUsize, is_over: &AtomicBool) -> Vec<String> {
        let mut ids = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            // A different user each time, so that no user exceeds the rate limit of the file.
            let id = format!("{}-{}", self.name, ids.len());
            self.order(&id);
            accepted.fetch_add(1, Ordering::Relaxed);
            ids.push(id);
        }
        ids
    }

    /// Sends an order until it is accepted. It may fail only if the connection ends: with the 503 of a draining gateway, or
    /// without a response. Then it is sent again on a new connection, which soon leads to another gateway.
    fn order(&mut self, id: &str) {
        wait_until(&format!("{id} is accepted"), RETRIES, || {
            let client = self.client.get_or_insert_with(|| Client::connect(self.edge));
            let request = client.buy_request(&order(id, id), &[]);
            let response = client.try_send_raw(&request).and_then(|()| client.try_read_response());
            let Ok(Some(response)) = response else {
                self.client = None;
                return false;
            };
            if closes(&response) {
                self.client = None;
            }
            match response.status {
                // 409: it had been accepted, and the response was lost with the connection.
                202 | 409 => true,
                503 if closes(&response) && response.header("retry-after").is_some() => false,
                _ => panic!("{id} is rejected on a connection that stays open: {response:?}"),
            }
        });
    }
}

fn closes(response: &Response) -> bool {
    response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// A haproxy with the configuration of the edge.
struct Edge {
    process: Guarded,
    port: u16,
    /// `host:port` of the processors' metrics.
    metrics: String,
    live: String,
    log: PathBuf,
    _dir: TempDir,
}

impl Edge {
    fn start(gateways: [u16; 2], processors: &[Service]) -> Self {
        let program = std::env::var_os("TEST_HAPROXY").unwrap_or_else(|| "haproxy".into());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/edge/haproxy.cfg");
        let mut text = fs::read_to_string(file).expect("the configuration of the edge");
        let (port, metrics) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let live = format!("127.0.0.1:{}", free_port());
        let servers = |ports: &mut dyn Iterator<Item = u16>| {
            let server = |(at, port)| format!("server s{at} 127.0.0.1:{port}\n    ");
            ports.enumerate().map(server).collect::<Vec<_>>().concat()
        };
        let mut replace = |from: &str, to: &str| {
            assert_eq!(
                text.matches(from).count(),
                1,
                "{from:?} must occur once in the configuration of the edge"
            );
            text = text.replace(from, to);
        };
        // This machine may allow fewer open files than the compose file.
        replace("maxconn 40000", "maxconn 2000");
        replace("bind :8080", &format!("bind 127.0.0.1:{port}"));
        replace("bind :9090", &format!("bind {metrics}"));
        replace("bind 127.0.0.1:8404", &format!("bind {live}"));
        let template = " resolvers docker init-addr none";
        replace(
            &format!("server-template gateway 10 gateway:8080{template}"),
            &servers(&mut gateways.into_iter()),
        );
        let ports = &mut processors.iter().map(|processor| processor.port);
        replace(&format!("server-template processor 16 processor:9090{template}"), &servers(ports));
        let dir = TempDir::new("edge");
        let changed = dir.path().join("haproxy.cfg");
        fs::write(&changed, text).expect("the directory is writable");
        let log = dir.path().join("haproxy.log");
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&changed).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&log).expect("the directory is writable"));
        let process = child::spawn(command).unwrap_or_else(|error| {
            panic!("haproxy does not start: {error}. Remedy: `cargo xtask test` gets it.")
        });
        Self { process, port, metrics, live, log, _dir: dir }
    }

    fn address(&self) -> &'static str {
        // Leaked for the threads of the test.
        Box::leak(format!("127.0.0.1:{}", self.port).into_boxed_str())
    }

    /// Waits until the edge forwards to a healthy gateway.
    fn wait_ready(&mut self) {
        let live = self.live.clone();
        wait_until("the edge is live", WAIT_MAX, || {
            assert!(self.process.ended().is_none(), "{}", fs::read_to_string(&self.log).unwrap_or_default());
            std::net::TcpStream::connect(&live).is_ok()
        });
        assert_eq!(Client::connect(live.as_str()).get("/live").status, 200);
        wait_until("the edge forwards to a gateway", WAIT_MAX, || {
            let mut client = Client::connect(self.address());
            client.try_send_raw(b"GET /health HTTP/1.1\r\nHost: edge\r\n\r\n").is_ok()
                && client
                    .try_read_response()
                    .is_ok_and(|response| response.is_some_and(|response| response.status == 200))
        });
    }

    /// Sends the stop signal of the compose file: haproxy finishes open connections, then exits.
    fn stop(mut self) {
        self.process.signal(Signal::User1).expect("it is still running");
        wait_until("haproxy exits", Duration::from_secs(35), || self.process.ended().is_some());
        assert_eq!(self.process.ended().and_then(|status| status.code()), Some(0));
    }
}
