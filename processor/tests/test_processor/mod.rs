//! A processor with Kafka and a store, for tests: the production cores and consumer, on the embedded default
//! or on real services started for the test.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses a part of the test processor")]

pub mod test_store;
pub mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use processor::{Parts, Running, Stopped};
use queue::admin;
use queue::embedded::Embedded;
use settings::read::Reader;
use shard::log::{Level, Sink};
use store::Policy;
use store::memory::Memory;
use store::open::Source;
use testkit::http::{Client, Response};
use testkit::kafka::{Kafka, unique_topic};
use testkit::wait_until;

pub use test_store::TestStore;
pub use topics::{DeadLetter, Sent, Topics, WAIT_MAX, order};

/// Partitions per test topic: more than cores, few enough to read quickly.
pub const PARTITIONS: i32 = 4;
/// Default consumer group.
pub const GROUP: &str = "test-group";

/// A processor and the services it uses. Fields drop in order: the processor before the broker.
pub struct TestProcessor {
    processor: Option<Running>,
    pub store: TestStore,
    pub topics: Topics,
    /// Consumer group of the running or last processor.
    pub group: String,
    variables: HashMap<String, String>,
    source: Source,
    sink: Arc<Sink>,
    embedded: Option<Embedded>,
}

impl TestProcessor {
    /// On the embedded default; no payment fails unless `variables` say otherwise.
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let policy = Policy {
            rate_limit_max_requests: 1,
            rate_limit_window_ms: 1,
            order_status_ttl_ms: 3_600_000,
            takeover_after_ms: 1000,
        };
        let memory = Memory::new(policy, 1_000_000);
        let embedded = Embedded::start("orders", "orders-dlq", PARTITIONS).expect("a broker");
        let topics = Topics {
            bootstrap: embedded.bootstrap().to_owned(),
            orders: "orders".to_owned(),
            dlq: "orders-dlq".to_owned(),
            partitions: PARTITIONS,
        };
        let store = TestStore::Memory(Arc::clone(&memory));
        Self::build(variables, "embedded", store, Some(memory), topics, Some(embedded))
    }

    /// On a real Kafka, with its own topics and group, and a real Redis. The processor connects to
    /// `redis_addr`, which may be a proxy; the test reads from `redis_store`.
    pub fn real(kafka: &Kafka, redis_addr: &str, redis_store: &str, variables: &[(&str, &str)]) -> Self {
        let topics = Topics {
            bootstrap: kafka.addr(),
            orders: unique_topic("orders"),
            dlq: unique_topic("dlq"),
            partitions: PARTITIONS,
        };
        let wanted = [(topics.orders.as_str(), PARTITIONS), (topics.dlq.as_str(), PARTITIONS)];
        admin::ensure_topics(&topics.bootstrap, &wanted, WAIT_MAX).expect("topics");
        Self::build(variables, redis_addr, TestStore::Redis(redis_store.to_owned()), None, topics, None)
    }

    fn build(
        variables: &[(&str, &str)],
        redis_addr: &str,
        store: TestStore,
        memory: Option<Arc<Memory>>,
        topics: Topics,
        embedded: Option<Embedded>,
    ) -> Self {
        let kafka_addr = if embedded.is_some() { "embedded" } else { topics.bootstrap.as_str() };
        let group = if embedded.is_some() { GROUP.to_owned() } else { unique_topic("group") };
        let defaults = [
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("WORKERS", "2"),
            ("PAYMENT_FAILURE_RATE", "0"),
            ("REDIS_ADDR", redis_addr),
            ("KAFKA_ADDR", kafka_addr),
            ("ORDERS_TOPIC", topics.orders.as_str()),
            ("DLQ_TOPIC", topics.dlq.as_str()),
            ("CONSUMER_GROUP", group.as_str()),
        ];
        let given = defaults.iter().chain(variables);
        let variables: HashMap<String, String> =
            given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let redis = settings_of(&variables).shared.redis;
        let source = Source::new(&redis, || memory.expect("the embedded store has a model"));
        let (sink, _) = Sink::start("processor", Level::Error, std::io::stderr()).expect("log thread");
        let mut test_processor =
            Self { processor: None, store, topics, group, variables, source, sink, embedded };
        test_processor.start(&[]);
        test_processor
    }

    /// Starts a processor with these variables in addition to the earlier ones, and waits until it is
    /// healthy.
    pub fn start(&mut self, variables: &[(&str, &str)]) {
        assert!(self.processor.is_none(), "a processor is already running");
        let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.variables.extend(given);
        let settings = settings_of(&self.variables);
        self.group.clone_from(&settings.shared.consumer_group);
        let parts = Parts {
            sink: Arc::clone(&self.sink),
            source: self.source.clone(),
            kafka_bootstrap: self.topics.bootstrap.clone(),
            guard: self.embedded.as_ref().map(Embedded::guard),
            unhealable: Arc::new(|reason| panic!("{reason}")),
        };
        let running = processor::start(&settings, &parts).expect("a processor");
        wait_until("the processor is healthy", WAIT_MAX, || running.is_healthy());
        self.processor = Some(running);
    }

    /// Stops the processor; broker and store keep running.
    pub fn stop(&mut self, timeout: Duration) -> Stopped {
        self.processor.take().expect("a processor").stop(timeout)
    }

    /// Stops cleanly and starts with a new group that has committed nothing: every record is delivered again,
    /// as after a crash before the first commit.
    pub fn redeliver_all(&mut self, variables: &[(&str, &str)]) {
        assert!(self.stop(WAIT_MAX).is_clean);
        let group = unique_topic("again");
        let variables: Vec<_> =
            variables.iter().copied().chain([("CONSUMER_GROUP", group.as_str())]).collect();
        self.start(&variables);
    }

    pub fn running(&self) -> &Running {
        self.processor.as_ref().expect("a running processor")
    }

    /// The embedded broker, to stop and restart it.
    pub fn embedded(&self) -> &Embedded {
        self.embedded.as_ref().expect("an embedded broker")
    }

    pub fn get(&self, path: &str) -> Response {
        Client::connect(self.running().metrics_addr()).get(path)
    }

    /// The value of a series on the metrics page; `line` is its name with labels.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let page = self.running().page().expect("page");
        let found = page.lines().find(|found| found.rsplit_once(' ').is_some_and(|(name, _)| name == line));
        found.and_then(|found| found.rsplit(' ').next()?.parse().ok())
    }

    /// The value of a counter.
    pub fn counted(&self, name: &str) -> u64 {
        self.metric(name).unwrap_or_else(|| panic!("no {name}")) as u64
    }

    /// Waits until this many records have been finished since the start.
    pub fn wait_processed(&self, records: u64) {
        wait_until(&format!("{records} records processed"), WAIT_MAX, || {
            self.counted("processor_orders_processed_total") >= records
        });
    }

    /// Waits until the group has committed everything that was sent.
    pub fn wait_committed(&self) {
        let sent = self.topics.orders_sent();
        wait_until("all offsets committed", WAIT_MAX, || {
            let committed = self.topics.committed(&self.group);
            sent.iter().all(|(partition, &high)| committed.get(partition).copied().unwrap_or(0) == high)
        });
    }

    /// Asserts the counters and the equation in `processor::metrics`, with nothing in flight.
    pub fn assert_counted(&self, success: u64, failed: u64, sold_out: u64, redelivered: u64) {
        let counted = [
            "processor_orders_processed_success_total",
            "processor_orders_processed_failed_total",
            "processor_orders_sold_out_total",
            "processor_orders_redelivered_total",
        ]
        .map(|name| self.counted(name));
        assert_eq!(counted, [success, failed, sold_out, redelivered]);
        assert_eq!(self.counted("processor_orders_processed_total"), counted.iter().sum::<u64>());
    }

    /// Asserts that every unit is either in stock or taken by an order: base = left + taken.
    pub fn assert_conserved(&self, item_id: &str) {
        let (base, taken) = self.store.ledger(item_id).expect("a ledger");
        let left = self.store.left(item_id).expect("a known stock");
        assert_eq!(base, left + taken, "{item_id}: base, left, taken");
        assert!(left >= 0, "{item_id}: {left} left");
    }
}

impl Drop for TestProcessor {
    fn drop(&mut self) {
        if let Some(processor) = self.processor.take() {
            processor.stop(Duration::from_secs(5));
        }
    }
}

fn settings_of(variables: &HashMap<String, String>) -> settings::Processor {
    let lookup = |name: &str| variables.get(name).cloned();
    let mut reader = Reader::new(HashMap::new(), &lookup);
    let settings = reader.processor();
    reader.finish().expect("valid test settings");
    settings
}

/// Random numbers for a test (`SplitMix64`). The seed is printed; set `PROCESSOR_TEST_SEED` to reproduce a
/// run.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let given = std::env::var("PROCESSOR_TEST_SEED").ok();
        let seed = given.map_or_else(
            || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
            |seed| seed.parse().expect("PROCESSOR_TEST_SEED is a number"),
        );
        println!("PROCESSOR_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number in `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
