//! Which orders of this run have a record in the topics, and which have a dead letter.
//!
//! The topics are read after the last response, from their end offsets at the start of the run. Each topic
//! costs one bit per order: 100 million orders cost 25 MB for both.

use std::ops::ControlFlow;
use std::time::Duration;

use queue::admin::Depth;
use queue::reader::TopicReader;
use wire::record;

use crate::sale::Sale;

/// How long the broker may take to respond.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Broker and topic names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Bootstrap servers.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders: String,
    /// `DLQ_TOPIC`
    pub dlq: String,
}

/// End offsets of both topics at the start of the run, by partition.
#[derive(Debug, Clone)]
pub struct StartOffsets {
    topics: Topics,
    orders: Vec<i64>,
    dlq: Vec<i64>,
}

/// Orders found in the topics.
#[derive(Debug, Clone)]
pub struct TopicContents {
    with_record: Bits,
    with_dead_letter: Bits,
}

/// One bit per order.
#[derive(Debug, Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Self {
        Self(vec![0; count.div_ceil(64) as usize])
    }

    fn set(&mut self, index: u64) {
        if let Some(word) = self.0.get_mut((index / 64) as usize) {
            *word |= 1 << (index % 64);
        }
    }

    fn get(&self, index: u64) -> bool {
        self.0.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

impl StartOffsets {
    /// Queries the current end offsets. A topic that does not exist yet is later read from its beginning.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn capture(topics: &Topics) -> Result<Self, String> {
        let depth = Depth::open(&topics.kafka, WAIT_MAX).map_err(|error| error.to_string())?;
        let ends = |topic: &str| -> Result<Vec<i64>, String> {
            let marks = depth.watermarks(topic).map_err(|error| error.to_string())?;
            Ok(marks.iter().map(|marks| marks.high).collect())
        };
        Ok(Self { topics: topics.clone(), orders: ends(&topics.orders)?, dlq: ends(&topics.dlq)? })
    }

    /// Reads the records written since then.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn read(&self, sale: &Sale) -> Result<TopicContents, String> {
        let mut contents =
            TopicContents { with_record: Bits::new(sale.buyers), with_dead_letter: Bits::new(sale.buyers) };
        let prefix = format!("{}-", sale.run_id);
        for (topic, starts, bits) in [
            (&self.topics.orders, &self.orders, &mut contents.with_record),
            (&self.topics.dlq, &self.dlq, &mut contents.with_dead_letter),
        ] {
            let start = |partition: i32, low: i64| starts.get(partition as usize).copied().unwrap_or(low);
            let mut reader = TopicReader::open_at(&self.topics.kafka, topic, WAIT_MAX, start)
                .map_err(|error| error.to_string())?;
            reader
                .read(|entry| {
                    let order = entry.value().and_then(|value| record::decode(value).ok());
                    let sequence = order.and_then(|order| sequence_of(&order.request_id, &prefix));
                    if let Some(sequence) = sequence {
                        bits.set(sequence);
                    }
                    ControlFlow::Continue(())
                })
                .map_err(|error| error.to_string())?;
        }
        Ok(contents)
    }
}

impl TopicContents {
    /// Whether the order has a record.
    pub fn has_record(&self, sequence: u64) -> bool {
        self.with_record.get(sequence)
    }

    /// Whether the order has a dead letter.
    pub fn has_dead_letter(&self, sequence: u64) -> bool {
        self.with_dead_letter.get(sequence)
    }
}

/// The order's number; `None` if it does not belong to this run.
fn sequence_of(request_id: &str, prefix: &str) -> Option<u64> {
    let digits = request_id.strip_prefix(prefix)?;
    let is_ours = !digits.is_empty() && !digits.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'+');
    is_ours.then(|| u64::from_str_radix(digits, 36).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_other_runs_are_ignored() {
        assert_eq!(sequence_of("r1-10", "r1-"), Some(36));
        for other in ["r2-10", "r1-", "r1-A", "r1-+1", "r1-u10!"] {
            assert_eq!(sequence_of(other, "r1-"), None, "{other}");
        }
        let mut bits = Bits::new(100);
        bits.set(99);
        bits.set(1_000);
        assert!(bits.get(99) && !bits.get(98) && !bits.get(1_000));
    }
}
