//! Property: when Kafka loses its data or a topic, gateway and processor recover without a restart. Meanwhile clients
//! get 503 and never 500, the first 202 arrives within 5 s after the broker can accept orders again (with the default breaker,
//! whose timer alone would take 30 s), and every order accepted afterwards gets its final status.
//! Method: processes of the binary on a private broker, which is emptied, or whose topics are deleted or recreated with a
//! different number of partitions, while one client sends orders continuously.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use process::{Process, WAIT_MAX, World};
use queue::admin;
use queue::describe::describe;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use testkit::http::Client;
use testkit::kafka::Kafka;
use testkit::wait_until;

use crate::process;

/// Limit from the moment when the broker can accept orders again.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// Name of a loss, and the function that causes it.
type Loss<'a> = (&'static str, &'a dyn Fn(&mut Kafka));

/// A client that sends one order after another.
struct Buyer<'a> {
    gateway: &'a Process,
    name: &'static str,
    sent: u32,
    accepted: Vec<String>,
    statuses: BTreeSet<u16>,
}

impl<'a> Buyer<'a> {
    fn new(gateway: &'a Process, name: &'static str) -> Self {
        Self { gateway, name, sent: 0, accepted: Vec::new(), statuses: BTreeSet::new() }
    }

    fn buy(&mut self) -> u16 {
        self.sent += 1;
        let id = format!("{}-{}", self.name, self.sent);
        let order = format!(r#"{{"user_id":"u-{id}","item_id":"101","amount":1,"request_id":"{id}"}}"#);
        let response = Client::connect(self.gateway.address().as_str()).post_buy(&order, &[]);
        if response.status == 503 {
            assert!(response.header("Retry-After").is_some(), "a 503 has a Retry-After");
        }
        self.statuses.insert(response.status);
        if response.status == 202 {
            self.accepted.push(id);
        }
        response.status
    }

    fn buy_until_accepted(&mut self) {
        wait_until("an order is accepted", WAIT_MAX, || self.buy() == 202);
    }
}

fn admin_client(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client")
}

/// The id of a topic as the broker sees it; `None` while it has none.
fn topic_id(client: &AdminClient<DefaultClientContext>, topic: &str) -> Option<String> {
    let described = describe(client.inner(), &[topic], WAIT_MAX).ok()?;
    Some(described.into_iter().next()??.id)
}

/// Deletes the topic as soon as it exists, and waits until the broker has deleted it: the controller responds earlier, and
/// until then the broker still appends records to the old log.
fn delete_topic(bootstrap: &str, topic: &str) {
    let client = admin_client(bootstrap);
    let mut id = None;
    wait_until("the topic exists", WAIT_MAX, || {
        id = topic_id(&client, topic);
        id.is_some()
    });
    let deleted = futures_executor(client.delete_topics(&[topic], &AdminOptions::new()));
    assert!(deleted.expect("a response").iter().all(Result::is_ok), "{topic} cannot be deleted");
    wait_until("the broker has deleted the topic", WAIT_MAX, || topic_id(&client, topic) != id);
}

/// The admin client completes its futures on its own thread.
fn futures_executor<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_loss_is_recovered_from_within_5_s() {
    let (world, mut kafka) = World::with_private_kafka();
    world.store.set_stock("101", 1_000_000);
    let gateway = world.start_gateway(&[("RATE_LIMIT_MAX_REQUESTS", "1000"), ("LOG_LEVEL", "info")]);
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0"), ("LOG_LEVEL", "info")]);
    gateway.wait_health(200);
    processor.wait_health(200);
    let topics = world.topics.clone();
    let (orders, dlq) = (topics.orders.as_str(), topics.dlq.as_str());
    let client = admin_client(&topics.bootstrap);
    let recreate = |partitions: i32| {
        delete_topic(&topics.bootstrap, orders);
        admin::ensure_topics(&topics.bootstrap, &[(orders, partitions)], WAIT_MAX).expect("the topic");
    };
    let losses: [Loss<'_>; 6] = [
        ("lost-data", &|kafka| kafka.restart_empty()),
        ("deleted-orders", &|_| delete_topic(&topics.bootstrap, orders)),
        ("deleted-dlq", &|_| delete_topic(&topics.bootstrap, dlq)),
        ("recreated-larger", &|_| recreate(7)),
        ("recreated-smaller", &|_| recreate(2)),
        // The topic is deleted again during the rebalance of the group; this once left the members without partitions forever.
        ("deleted-repeatedly", &|_| (0..8).for_each(|_| delete_topic(&topics.bootstrap, orders))),
    ];
    for (name, lose) in losses {
        let mut buyer = Buyer::new(&gateway, name);
        buyer.buy_until_accepted();
        world.wait_for_final_status(&buyer.accepted, buyer.accepted.len());
        lose(&mut kafka);
        let began = Instant::now();
        wait_until("an order is accepted and both topics exist", WAIT_MAX, || {
            buyer.buy() == 202 && [orders, dlq].iter().all(|topic| topic_id(&client, topic).is_some())
        });
        let took = began.elapsed();
        let before = buyer.accepted.len();
        for _ in 0..20 {
            buyer.buy_until_accepted();
        }
        println!("{name}: first 202 after {took:?}; {} orders, statuses {:?}", buyer.sent, buyer.statuses);
        assert!(took <= RECOVERY_MAX, "{name}: the first 202 took {took:?}\n{}", gateway.log());
        assert!(
            buyer.statuses.is_subset(&BTreeSet::from([202, 503])),
            "{name}: {:?}\n{}",
            buyer.statuses,
            gateway.log()
        );
        // Orders accepted while a topic was being replaced may be in the deleted log; later orders are not.
        let later: Vec<String> = buyer.accepted.split_off(before);
        world.wait_for_final_status(&later, later.len());
        gateway.wait_health(200);
        processor.wait_health(200);
    }
}
