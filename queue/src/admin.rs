//! Topics: creation with the wanted number of partitions, and the number of records in them.
//!
//! Everything here blocks on the network: call it from a separate thread, never from a core.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Offset, TopicPartitionList};

/// A failed operation on Kafka.
#[derive(Debug, Clone)]
pub struct AdminError {
    /// The operation that failed.
    pub operation: String,
    /// Error text of Kafka or librdkafka.
    pub reason: String,
}

impl fmt::Display for AdminError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.operation, self.reason)
    }
}

impl std::error::Error for AdminError {}

fn failed(operation: &str, error: impl fmt::Display) -> AdminError {
    AdminError { operation: operation.to_owned(), reason: error.to_string() }
}

/// Number of partitions of a topic, `None` if it does not exist.
fn partitions(client: &BaseConsumer, topic: &str, timeout: Duration) -> Result<Option<usize>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(found
        .filter(|found| found.error().is_none())
        .map(|found| found.partitions().len())
        .filter(|&count| count > 0))
}

/// Result of [`ensure_topics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Number of partitions of each topic, in the order of the request.
    pub partitions: Vec<usize>,
    /// Topics that were missing and have been created.
    pub created: Vec<String>,
}

/// Creates each missing topic with the given number of partitions and the broker's default replication, and
/// waits until all topics are usable. An existing topic is left as it is, whatever its number of partitions.
///
/// # Errors
/// If Kafka cannot be reached within `timeout`, or refuses.
pub fn ensure_topics(
    bootstrap: &str,
    topics: &[(&str, i32)],
    timeout: Duration,
) -> Result<Ensured, AdminError> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let operation = format!("Kafka at {bootstrap}");
    let mut config = ClientConfig::new();
    // A metadata request must not create a topic with the broker's default number of partitions.
    config
        .set("bootstrap.servers", bootstrap)
        .set("allow.auto.create.topics", "false")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
    let client: BaseConsumer = config.create().map_err(|error| failed(&operation, error))?;
    let mut missing = Vec::new();
    let mut created = Vec::new();
    for &(topic, count) in topics {
        if partitions(&client, topic, left()).map_err(|error| failed(&operation, error))?.is_none() {
            missing.push(NewTopic::new(topic, count, TopicReplication::Fixed(-1)));
        }
    }
    if !missing.is_empty() {
        config.remove("allow.auto.create.topics");
        let admin: AdminClient<DefaultClientContext> =
            config.create().map_err(|error| failed(&operation, error))?;
        let options = AdminOptions::new().operation_timeout(Some(left())).request_timeout(Some(left()));
        let names: Vec<&str> = missing.iter().map(|topic| topic.name).collect();
        let operation = format!("creation of {} on {bootstrap}", names.join(", "));
        let results =
            block_on(admin.create_topics(&missing, &options)).map_err(|error| failed(&operation, error))?;
        for result in results {
            match result {
                Ok(topic) => created.push(topic),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(failed(&format!("topic {topic} on {bootstrap}"), code)),
            }
        }
    }
    let mut counts = Vec::new();
    for &(topic, _) in topics {
        loop {
            match partitions(&client, topic, left()) {
                Ok(Some(count)) => {
                    counts.push(count);
                    break;
                }
                Ok(None) | Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(None) => {
                    return Err(failed(&format!("topic {topic} on {bootstrap}"), "not available in time"));
                }
                Err(error) => return Err(failed(&format!("topic {topic} on {bootstrap}"), error)),
            }
        }
    }
    Ok(Ensured { partitions: counts, created })
}

/// Runs a future of the admin client, which completes futures on its own thread: parks this thread until
/// then.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

/// Low and high watermark of one partition: the log has offsets `low..high` (including transaction markers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The partition.
    pub partition: i32,
    /// First offset in the log.
    pub low: i64,
    /// Last offset plus one.
    pub high: i64,
}

/// A consumer group seen from outside: queries its coordinator without joining the group.
pub struct Group {
    client: BaseConsumer,
    name: String,
    timeout: Duration,
}

impl Group {
    /// Connects in the background; each query waits at most `timeout`.
    ///
    /// # Errors
    /// If librdkafka rejects the bootstrap list.
    pub fn open(bootstrap: &str, group: &str, timeout: Duration) -> Result<Self, AdminError> {
        let client = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
            .create()
            .map_err(|error| failed(bootstrap, error))?;
        Ok(Self { client, name: group.to_owned(), timeout })
    }

    /// The state of the group as the coordinator names it (`Stable` when all members have their partitions)
    /// and its number of members; `None` if the group never had a member.
    ///
    /// # Errors
    /// When Kafka does not answer in time.
    pub fn members(&self) -> Result<Option<(String, usize)>, AdminError> {
        let list = self.client.fetch_group_list(Some(&self.name), self.timeout);
        let list = list.map_err(|error| failed(&format!("group {}", self.name), error))?;
        let found = list.groups().iter().find(|group| group.name() == self.name);
        Ok(found.map(|group| (group.state().to_owned(), group.members().len())))
    }

    /// Committed offset of each partition, in the order of `watermarks`; `None` for a partition without a
    /// commit.
    ///
    /// # Errors
    /// When Kafka does not answer in time.
    pub fn committed(&self, topic: &str, watermarks: &[Watermarks]) -> Result<Vec<Option<i64>>, AdminError> {
        let operation = format!("offsets of group {}", self.name);
        let mut list = TopicPartitionList::new();
        for partition in watermarks {
            list.add_partition(topic, partition.partition);
        }
        let found = self.client.committed_offsets(list, self.timeout);
        let found = found.map_err(|error| failed(&operation, error))?;
        let of = |marks: &Watermarks| match found.find_partition(topic, marks.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(watermarks.iter().map(of).collect())
    }
}

fn is_without_leader(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable))
}

/// Queries how many records topics have. Keeps one connection; use it from one thread.
pub struct Depth {
    client: BaseConsumer,
    timeout: Duration,
}

impl Depth {
    /// Connects in the background; each query waits at most `timeout`.
    ///
    /// # Errors
    /// If librdkafka rejects the bootstrap list.
    pub fn open(bootstrap: &str, timeout: Duration) -> Result<Self, AdminError> {
        let client = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "flash-sale-depth")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "50")
            .set("enable.partition.eof", "true")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
            .create()
            .map_err(|error| failed(bootstrap, error))?;
        Ok(Self { client, timeout })
    }

    /// The watermarks of every partition; empty if the topic does not exist.
    ///
    /// # Errors
    /// When Kafka does not answer in time.
    pub fn watermarks(&self, topic: &str) -> Result<Vec<Watermarks>, AdminError> {
        let operation = format!("watermarks of {topic}");
        let count =
            partitions(&self.client, topic, self.timeout).map_err(|error| failed(&operation, error))?;
        let deadline = Instant::now() + self.timeout;
        let ask = |partition: i32| loop {
            match self.client.fetch_watermarks(topic, partition, self.timeout) {
                Ok((low, high)) => return Ok(Watermarks { partition, low, high }),
                // Happens for a topic that was just created, and while a leader changes.
                Err(error) if is_without_leader(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(failed(&operation, error)),
            }
        };
        (0..count.unwrap_or(0) as i32).map(ask).collect()
    }

    /// Timestamp of the oldest record, Unix milliseconds; `None` if the topic is empty.
    ///
    /// # Errors
    /// When Kafka does not answer in time.
    pub fn oldest_timestamp_ms(
        &self,
        topic: &str,
        watermarks: &[Watermarks],
    ) -> Result<Option<i64>, AdminError> {
        let operation = format!("oldest record of {topic}");
        let filled: Vec<&Watermarks> = watermarks.iter().filter(|marks| marks.high > marks.low).collect();
        if filled.is_empty() {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        for marks in &filled {
            list.add_partition_offset(topic, marks.partition, Offset::Offset(marks.low))
                .map_err(|error| failed(&operation, error))?;
        }
        self.client.assign(&list).map_err(|error| failed(&operation, error))?;
        let deadline = Instant::now() + self.timeout;
        let mut first: Vec<Option<i64>> = vec![None; filled.len()];
        while first.iter().any(Option::is_none) && Instant::now() < deadline {
            match self.client.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    let index = filled.iter().position(|marks| marks.partition == message.partition());
                    if let Some(slot) = index.and_then(|index| first.get_mut(index)) {
                        slot.get_or_insert(message.timestamp().to_millis().unwrap_or(0));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // The records were deleted between the two queries: the partition counts as empty.
                    let index = filled.iter().position(|marks| marks.partition == partition);
                    if let Some(slot) = index.and_then(|index| first.get_mut(index)) {
                        slot.get_or_insert(i64::MAX);
                    }
                }
                Some(Err(_)) | None => {}
            }
        }
        let unassigned = self.client.assign(&TopicPartitionList::new());
        unassigned.map_err(|error| failed(&operation, error))?;
        if first.iter().any(Option::is_none) {
            return Err(failed(&operation, "not read in time"));
        }
        Ok(first.into_iter().flatten().min().filter(|&timestamp| timestamp != i64::MAX))
    }
}
