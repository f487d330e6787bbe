//! Claim: the services of `docker-compose.yml` work as the file starts them: they become healthy by their own health
//! command, an order goes through to its end, and each ends with 0 within its grace period; with two gateways and three
//! processors behind the edge, a gateway may go while orders come. Method: the commands and variables of the file as
//! plain processes on a real Redis and a real Kafka, and a real haproxy with the file of the edge, in which only
//! addresses and the number of connections are other ones.

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

/// Buyers at once, each on a connection that it keeps.
const BUYERS: usize = 8;
/// Orders that must go through before the gateway is told to go, and after it has gone.
const ORDERS: usize = 200;
/// How long a buyer tries on; the edge looks at its gateways twice a second.
const RETRIES: Duration = Duration::from_secs(5);

#[test]
fn an_order_goes_through_and_everyone_ends_in_time() {
    let project = Project::new();
    project.stock(&["set", "101", "5"]);
    let (processor, gateway) = (project.start("processor"), project.start("gateway"));
    gateway.wait_healthy();
    processor.wait_healthy();
    let answer = Client::connect(gateway.address()).post_buy(&order("u1", "r-1"), &[]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    wait_until("the order has its final status", WAIT_MAX, || status(&gateway.address(), "r-1") != "PENDING");
    // One payment in ten fails, by the seed of the file; it is this one or it is not.
    let end = status(&gateway.address(), "r-1");
    assert!(["COMPLETED", "FAILED_PAYMENT"].contains(&end.as_str()), "{end}");
    gateway.stop();
    processor.stop();
}

#[test]
fn a_gateway_goes_behind_the_edge_and_no_order_is_lost() {
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

    let taken = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let (address, taken, is_over) = (edge.address(), &taken, &is_over);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let buy = |buyer| move || Buyer::new(address, buyer).buy(taken, is_over);
        let buyers: Vec<_> = (0..BUYERS).map(|buyer| scope.spawn(buy(buyer))).collect();
        let wait_taken = |count: usize| {
            wait_until(&format!("{count} orders are taken"), WAIT_MAX, || {
                taken.load(Ordering::Relaxed) >= count
            });
        };
        wait_taken(ORDERS);
        // Both have their share: connections go where there are fewest.
        for gateway in [&first, &second] {
            wait_until("each gateway takes orders", WAIT_MAX, || {
                gateway.metric("gateway_orders_successful_total") > 0.0
            });
        }
        first.stop();
        wait_taken(taken.load(Ordering::Relaxed) + ORDERS);
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

/// Someone who keeps a connection and orders one after the other.
struct Buyer<'a> {
    edge: &'a str,
    client: Option<Client>,
    name: String,
}

impl<'a> Buyer<'a> {
    fn new(edge: &'a str, number: usize) -> Self {
        Self { edge, client: None, name: format!("u{number}") }
    }

    /// Orders until it is over; the ids that were taken.
    fn buy(mut self, taken: &AtomicUsize, is_over: &AtomicBool) -> Vec<String> {
        let mut ids = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            // Another user each time: nobody is over the limit of the file.
            let id = format!("{}-{}", self.name, ids.len());
            self.order(&id);
            taken.fetch_add(1, Ordering::Relaxed);
            ids.push(id);
        }
        ids
    }

    /// Sends an order until it is taken. The one excuse not to take it is a connection that ends: with the 503 of a
    /// gateway that drains, or without an answer. Then it is sent again on a new one, which soon leads to another gateway.
    fn order(&mut self, id: &str) {
        wait_until(&format!("{id} is taken"), RETRIES, || {
            let client = self.client.get_or_insert_with(|| Client::connect(self.edge));
            let request = client.buy_request(&order(id, id), &[]);
            let answer = client.try_send_raw(&request).and_then(|()| client.try_read_response());
            let Ok(Some(answer)) = answer else {
                self.client = None;
                return false;
            };
            if closes(&answer) {
                self.client = None;
            }
            match answer.status {
                // 409: it had been taken, and the answer was lost with the connection.
                202 | 409 => true,
                503 if closes(&answer) && answer.header("retry-after").is_some() => false,
                _ => panic!("{id} is refused on a connection that stays: {answer:?}"),
            }
        });
    }
}

fn closes(answer: &Response) -> bool {
    answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// A haproxy with the file of the edge.
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
        let mut text = fs::read_to_string(file).expect("the file of the edge");
        let (port, metrics) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let live = format!("127.0.0.1:{}", free_port());
        let servers = |ports: &mut dyn Iterator<Item = u16>| {
            let server = |(at, port)| format!("server s{at} 127.0.0.1:{port}\n    ");
            ports.enumerate().map(server).collect::<Vec<_>>().concat()
        };
        let mut replace = |from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in the file of the edge");
            text = text.replace(from, to);
        };
        // As many files as the compose file allows may be more than this machine does.
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
        // For threads of one test; it lives as long as that.
        Box::leak(format!("127.0.0.1:{}", self.port).into_boxed_str())
    }

    /// Until it leads to a gateway that is healthy.
    fn wait_ready(&mut self) {
        let live = self.live.clone();
        wait_until("the edge lives", WAIT_MAX, || {
            assert!(self.process.ended().is_none(), "{}", fs::read_to_string(&self.log).unwrap_or_default());
            std::net::TcpStream::connect(&live).is_ok()
        });
        assert_eq!(Client::connect(live.as_str()).get("/live").status, 200);
        wait_until("the edge has the gateways", WAIT_MAX, || {
            let mut client = Client::connect(self.address());
            client.try_send_raw(b"GET /health HTTP/1.1\r\nHost: edge\r\n\r\n").is_ok()
                && client
                    .try_read_response()
                    .is_ok_and(|answer| answer.is_some_and(|answer| answer.status == 200))
        });
    }

    /// The signal of the compose file: finish what there is, then go.
    fn stop(mut self) {
        self.process.signal(Signal::User1).expect("it still runs");
        wait_until("haproxy ends", Duration::from_secs(35), || self.process.ended().is_some());
        assert_eq!(self.process.ended().and_then(|status| status.code()), Some(0));
    }
}
