//! What lies in the topics about the orders of this run: which have a record, which have a dead letter.
//!
//! Read once, after the last answer, from where the topics ended when the run began. One bit an order for each of
//! the two: 100 million orders cost 25 MB.

use std::ops::ControlFlow;
use std::time::Duration;

use queue::admin::Depth;
use queue::reader::TopicReader;
use wire::record;

use crate::plan::Plan;

/// How long the broker may be silent.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Where the topics are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders: String,
    /// `DLQ_TOPIC`
    pub dlq: String,
}

/// Where both topics ended when the run began, by partition.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    topics: Topics,
    orders: Vec<i64>,
    dlq: Vec<i64>,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    recorded: Bits,
    lettered: Bits,
}

/// One bit an order.
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

impl Beginning {
    /// Notes where the topics end now. A topic that is not there yet begins at its beginning.
    pub(crate) fn note(topics: &Topics) -> Result<Self, String> {
        let depth = Depth::open(&topics.kafka, WAIT_MAX).map_err(|error| error.to_string())?;
        let ends = |topic: &str| -> Result<Vec<i64>, String> {
            let marks = depth.watermarks(topic).map_err(|error| error.to_string())?;
            Ok(marks.iter().map(|marks| marks.high).collect())
        };
        Ok(Self { topics: topics.clone(), orders: ends(&topics.orders)?, dlq: ends(&topics.dlq)? })
    }

    /// Reads what was written since.
    pub(crate) fn read(&self, plan: &Plan) -> Result<Evidence, String> {
        let mut evidence = Evidence { recorded: Bits::new(plan.buyers), lettered: Bits::new(plan.buyers) };
        let prefix = format!("{}-", plan.run_id);
        for (topic, begins, bits) in [
            (&self.topics.orders, &self.orders, &mut evidence.recorded),
            (&self.topics.dlq, &self.dlq, &mut evidence.lettered),
        ] {
            let begin = |partition: i32, low: i64| begins.get(partition as usize).copied().unwrap_or(low);
            let mut reader = TopicReader::open_at(&self.topics.kafka, topic, WAIT_MAX, begin)
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
        Ok(evidence)
    }
}

impl Evidence {
    /// The order has a record.
    pub(crate) fn has_record(&self, sequence: u64) -> bool {
        self.recorded.get(sequence)
    }

    /// The order has a dead letter.
    pub(crate) fn has_letter(&self, sequence: u64) -> bool {
        self.lettered.get(sequence)
    }
}

/// The number of an order of this run; `None` for others.
fn sequence_of(request_id: &str, prefix: &str) -> Option<u64> {
    let digits = request_id.strip_prefix(prefix)?;
    let is_ours = !digits.is_empty() && !digits.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'+');
    is_ours.then(|| u64::from_str_radix(digits, 36).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_this_run_are_told_from_others() {
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
