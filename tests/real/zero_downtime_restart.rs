//! Property: gateways that take over from each other through `HANDOVER_SOCKET` under load refuse and reset no connection and
//! lose no acknowledged order, even if the number of cores or the IO driver differs; each old gateway exits with 0.
//! Method: real processes on a real Redis and Kafka, clients that keep their connection until the gateway announces its close,
//! clients that open a connection for each order, and three hand-overs. `cargo xtask drill zero-downtime-restart` does ten
//! hand-overs at a thousand orders per second.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use process::{Process, WAIT_MAX, World};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::{TempDir, free_port, wait_until};

use crate::process;

const KEPT: usize = 8;
const FRESH: usize = 2;
/// Orders between two hand-overs.
const ORDERS: usize = 300;

/// Cores and driver of each generation.
const GENERATIONS: [(&str, &str); 4] = [("2", "0"), ("3", "1"), ("1", "0"), ("2", "1")];

#[derive(Default)]
struct Bought {
    ids: Mutex<Vec<String>>,
    count: AtomicUsize,
    is_over: AtomicBool,
}

impl Bought {
    /// Sends orders until `is_over`; a broken or refused connection fails the test.
    fn buy(&self, address: &str, name: &str, keeps: bool) {
        let mut client: Option<Client> = None;
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let id = format!("{name}-{number}");
            let connected = client.get_or_insert_with(|| Client::connect(address));
            let order = format!(r#"{{"user_id":"{id}","item_id":"101","amount":1,"request_id":"{id}"}}"#);
            let response = connected.post_buy(&order, &[]);
            assert_eq!(response.status, 202, "{id}: {}", response.text());
            if !keeps || response.header("connection") == Some("close") {
                client = None;
            }
            self.ids.lock().expect("no client has panicked").push(id);
            self.count.fetch_add(1, Ordering::Relaxed);
            number += 1;
            // Enough load to keep both cores of a small machine busy.
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait_for_more(&self) {
        let wanted = self.count.load(Ordering::Relaxed) + ORDERS;
        wait_until("more orders are accepted", WAIT_MAX, || self.count.load(Ordering::Relaxed) >= wanted);
    }
}

fn start(world: &World, address: &str, socket: &str, (workers, is_epoll): (&str, &str)) -> Process {
    world.start_gateway(&[
        ("LISTEN_ADDR", address),
        ("HANDOVER_SOCKET", socket),
        ("WORKERS", workers),
        ("MONOIO_FORCE_LEGACY_DRIVER", is_epoll),
    ])
}

#[test]
fn hand_overs_refuse_reset_and_lose_nothing() {
    let world = World::new();
    world.store.set_stock("101", 1_000_000);
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    let dir = TempDir::new("handover");
    let socket = dir.path().join("gateway.sock");
    let socket = socket.to_str().expect("a path in UTF-8");
    let address = format!("127.0.0.1:{}", free_port());

    let mut running = start(&world, &address, socket, GENERATIONS[0]).at(&address);
    running.wait_health(200);
    let bought = Arc::new(Bought::default());
    let clients: Vec<_> = (0..KEPT + FRESH)
        .map(|number| {
            let (bought, address) = (Arc::clone(&bought), address.clone());
            thread::spawn(move || bought.buy(&address, &format!("c{number}"), number < KEPT))
        })
        .collect();
    for generation in &GENERATIONS[1..] {
        bought.wait_for_more();
        let next = start(&world, &address, socket, *generation).at(&address);
        // The old gateway exits without a signal.
        assert_eq!(running.wait().code(), Some(0), "the old gateway");
        running = next;
    }
    bought.wait_for_more();
    bought.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no connection was refused and no response is missing");
    }
    let ids = bought.ids.lock().expect("no client has panicked").clone();
    world.wait_for_final_status(&ids, ids.len());
    let completed = world.store.statuses(&ids);
    assert!(
        completed.iter().all(|status| status.as_deref() == Some("COMPLETED")),
        "each acknowledged order completed"
    );
    assert_eq!(world.store.left("101"), Some(1_000_000 - ids.len() as i64));
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(processor.terminate(), Some(0));
}

#[test]
fn successor_without_kafka_changes_nothing() {
    let world = World::new();
    let dir = TempDir::new("handover");
    let socket = dir.path().join("gateway.sock");
    let socket = socket.to_str().expect("a path in UTF-8");
    let address = format!("127.0.0.1:{}", free_port());
    let running = start(&world, &address, socket, ("1", "0")).at(&address);
    running.wait_health(200);
    let nowhere = format!("127.0.0.1:{}", free_port());
    let mut successor = world.start_gateway(&[
        ("LISTEN_ADDR", address.as_str()),
        ("HANDOVER_SOCKET", socket),
        ("KAFKA_ADDR", nowhere.as_str()),
    ]);
    let mut client = Client::connect(address.as_str());
    for _ in 0..20 {
        assert_eq!(client.get("/health").status, 200, "the running gateway serves while its successor waits");
        thread::sleep(Duration::from_millis(50));
    }
    successor.signal(Signal::Terminate);
    assert_eq!(successor.wait().code(), Some(1));
    running.wait_health(200);
    // The next successor can still take over.
    let next = start(&world, &address, socket, ("1", "0")).at(&address);
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(next.terminate(), Some(0));
}
