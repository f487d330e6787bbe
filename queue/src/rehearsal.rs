//! Warms up a broker with a bounded rehearsal on a separate topic: it writes records like orders, waits for
//! their acknowledgements, reads them back, and deletes the topic. A broker that has just started compiles
//! its code while it serves; after the rehearsal this is done.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::admin::{AdminError, block_on, ensure_topics};
use crate::outgoing::{Outgoing, Topic};
use crate::producer::{Delivery, ProducerSettings};
use crate::reader::TopicReader;
use crate::sender::Sender;

/// Topic of the rehearsal; deleted at the end.
pub const TOPIC: &str = "flash-sale-rehearsal";
/// Length of a tick. The records of one tick are sent together and waited for.
const TICK: Duration = Duration::from_millis(20);
/// Size of an order's record.
const VALUE_BYTES: usize = 220;
/// Timeout of one request to Kafka.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Number of ticks at the end of the rehearsal that the reported latency covers.
const LAST_TICKS: usize = 100;

/// Result of a rehearsal.
#[derive(Debug, Clone, Copy)]
pub struct Rehearsed {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records not acknowledged.
    pub failed: u64,
    /// Median and maximum time until the records of a tick were acknowledged, over the last two seconds.
    pub last_ms: [f64; 2],
}

/// Sends `rate` records per second for `duration`; `go_on` is called each tick, and false ends the rehearsal
/// early.
///
/// # Errors
/// If the topic cannot be created, read or deleted.
pub fn rehearse(
    bootstrap: &str,
    partitions: i32,
    rate: u64,
    duration: Duration,
    mut go_on: impl FnMut(Duration) -> bool,
) -> Result<Rehearsed, AdminError> {
    // A topic left by an interrupted rehearsal keeps its number of partitions.
    let ensured = ensure_topics(bootstrap, &[(TOPIC, partitions)], TIMEOUT)?;
    let partitions = ensured.partitions.first().map_or(partitions, |&count| count as i32);
    let failed = |reason: String| AdminError { operation: format!("topic {TOPIC} on {bootstrap}"), reason };
    let mut settings =
        ProducerSettings::new(bootstrap, "flash-sale-prepare", [TOPIC, TOPIC].map(str::to_owned));
    settings.message_timeout_ms = TIMEOUT.as_millis() as u64;
    let sender = Sender::open(&settings).map_err(|error| failed(error.to_string()))?;
    let value = [b'x'; VALUE_BYTES];
    let record = Outgoing {
        topic: Topic::Orders,
        key: Some(b"rehearsal"),
        partition: None,
        value: Some(&value),
        headers: &[],
        timestamp_ms: None,
    };
    let mut records = vec![record; (rate as f64 * TICK.as_secs_f64()).ceil() as usize];
    let mut found = Rehearsed { acknowledged: 0, failed: 0, last_ms: [0.0; 2] };
    let mut ticks_ms = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < duration && go_on(begun.elapsed()) {
        // As in the gateway: records sent together go to one partition, the next ones to another.
        let partition = ticks_ms.len() as i32 % partitions.max(1);
        for record in &mut records {
            record.partition = Some(partition);
        }
        let sent = Instant::now();
        let deliveries = sender.send_all(&records);
        ticks_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        let arrived =
            deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Persisted { .. })).count()
                as u64;
        found.acknowledged += arrived;
        found.failed += deliveries.len() as u64 - arrived;
        std::thread::sleep(TICK.saturating_sub(sent.elapsed()));
    }
    let last = ticks_ms.len().saturating_sub(LAST_TICKS);
    let last = &mut ticks_ms[last..];
    last.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (last.get(last.len() / 2), last.last()) {
        found.last_ms = [*median, *worst];
    }
    let read = TopicReader::open(bootstrap, TOPIC, TIMEOUT)
        .and_then(|mut reader| reader.read(|_| ControlFlow::Continue(())));
    delete(bootstrap).map_err(failed)?;
    read?;
    Ok(found)
}

fn delete(bootstrap: &str) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .map_err(|error| error.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let deleted = block_on(admin.delete_topics(&[TOPIC], &options)).map_err(|error| error.to_string())?;
    deleted.into_iter().try_for_each(|topic| topic.map(drop).map_err(|(_, code)| code.to_string()))
}
