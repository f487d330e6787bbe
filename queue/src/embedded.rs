//! A Kafka broker inside this process: librdkafka's mock cluster, so that the demo and tests run the
//! production producer and consumer. All data is lost when the process exits.
//!
//! Limitations and how they are handled: it keeps at most 5 MiB or 100,000 batches per partition and drops
//! the oldest *silently* (`Guard` makes the gateway shed before that); it does not create topics on request
//! (they are created here at startup); it waits 3 s before a group's first rebalance (set to 50 ms here); it
//! does not recognise retries (a duplicated order is fenced by the processor in any case).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::native;

/// Bytes that a partition of the mock cluster keeps (`rdkafka_mock.c`, `partition max_size`).
const PARTITION_BYTES_MAX: i64 = 5 * 1024 * 1024;
/// Maximum size of a record: value 700 (four fields of 100 + 100 + 4 + 200 characters of up to 2 bytes when
/// escaped or not ASCII, correlation id 128, names and numbers 130), key 100, headers 400, framing 100.
const RECORD_BYTES_MAX: i64 = 1300;
/// Maximum unprocessed records of a partition: half of what fits; the other half is for orders in flight when
/// the gateway notices.
const PARTITION_RECORDS_MAX: i64 = PARTITION_BYTES_MAX / RECORD_BYTES_MAX / 2;

/// The broker. It runs until dropped; drop it after all of its clients.
pub struct Embedded {
    producer: BaseProducer,
    bootstrap: String,
    guard: Arc<Guard>,
}

/// The embedded broker could not be started.
#[derive(Debug, Clone)]
pub struct EmbeddedError(String);

impl fmt::Display for EmbeddedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot start the embedded broker: {}", self.0)
    }
}

impl std::error::Error for EmbeddedError {}

impl Embedded {
    /// Starts one broker on a free port of the loopback interface and creates the topics.
    ///
    /// # Errors
    /// If librdkafka cannot start it.
    pub fn start(orders_topic: &str, dlq_topic: &str, partitions: i32) -> Result<Self, EmbeddedError> {
        let failed = |error: rdkafka::error::KafkaError| EmbeddedError(error.to_string());
        let producer: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            // The mock cluster logs a notice at every start.
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
            .create()
            .map_err(failed)?;
        native::set_mock_rebalance_delay(&producer, 50);
        let bootstrap = {
            let cluster = producer
                .client()
                .mock_cluster()
                .ok_or_else(|| EmbeddedError("no mock cluster".to_owned()))?;
            cluster.create_topic(orders_topic, partitions, 1).map_err(failed)?;
            cluster.create_topic(dlq_topic, partitions, 1).map_err(failed)?;
            cluster.bootstrap_servers()
        };
        Ok(Self { producer, bootstrap, guard: Arc::new(Guard::new(partitions as usize)) })
    }

    /// Bootstrap address for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The guard shared by gateway and processor.
    pub fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// Makes the broker unreachable, as a fault for tests.
    pub fn go_down(&self) {
        self.for_cluster(|cluster| drop(cluster.broker_down(-1)));
    }

    /// Makes the broker reachable again.
    pub fn come_up(&self) {
        self.for_cluster(|cluster| drop(cluster.broker_up(-1)));
    }

    /// Delays every response of the broker, as a fault for tests.
    pub fn delay(&self, delay: std::time::Duration) {
        self.for_cluster(|cluster| drop(cluster.broker_round_trip_time(-1, delay)));
    }

    fn for_cluster(
        &self,
        act: impl FnOnce(&rdkafka::mocking::MockCluster<'_, rdkafka::producer::DefaultProducerContext>),
    ) {
        if let Some(cluster) = self.producer.client().mock_cluster() {
            act(&cluster);
        }
    }
}

/// Prevents the embedded broker from dropping records: the gateway checks it before admitting an order, and
/// the processor reports its progress.
#[derive(Debug)]
pub struct Guard {
    acknowledged: Vec<AtomicI64>,
    finished: Vec<AtomicI64>,
    dead_letters: AtomicU64,
    dead_letters_max: u64,
}

impl Guard {
    fn new(partitions: usize) -> Self {
        let zeroes = || (0..partitions).map(|_| AtomicI64::new(0)).collect();
        let dead_letters_max = (PARTITION_RECORDS_MAX as u64) * partitions as u64 / 2;
        Self { acknowledged: zeroes(), finished: zeroes(), dead_letters: AtomicU64::new(0), dead_letters_max }
    }

    /// The broker acknowledged the record at `offset` of `partition`.
    pub fn acknowledged(&self, partition: i32, offset: i64) {
        if let Some(cell) = self.acknowledged.get(partition as usize) {
            cell.fetch_max(offset + 1, Ordering::Relaxed);
        }
    }

    /// Every record of `partition` below `watermark` is finished (exclusive, like a committed offset).
    pub fn finished(&self, partition: i32, watermark: i64) {
        if let Some(cell) = self.finished.get(partition as usize) {
            cell.fetch_max(watermark, Ordering::Relaxed);
        }
    }

    /// A dead letter was written; nobody removes them from the embedded broker.
    pub fn dead_letter(&self) {
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
    }

    /// False if another record could make the broker drop one: the gateway must shed. Relaxed counters and
    /// one check of every partition are enough: the bound has room for orders in flight.
    pub fn has_room(&self) -> bool {
        let waits = |(acknowledged, finished): (&AtomicI64, &AtomicI64)| {
            acknowledged.load(Ordering::Relaxed) - finished.load(Ordering::Relaxed) < PARTITION_RECORDS_MAX
        };
        self.dead_letters.load(Ordering::Relaxed) < self.dead_letters_max
            && self.acknowledged.iter().zip(&self.finished).all(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_sheds_before_a_partition_is_full_and_recovers() {
        let guard = Guard::new(2);
        guard.acknowledged(1, PARTITION_RECORDS_MAX - 2);
        assert!(guard.has_room());
        guard.acknowledged(1, PARTITION_RECORDS_MAX - 1);
        assert!(!guard.has_room());
        guard.finished(1, 1);
        assert!(guard.has_room());
    }
}
