//! Decides where reading of a partition starts, and detects records that the group can no longer read.
//!
//! librdkafka would start at the committed offset, or silently somewhere else if the log no longer has it.
//! Here the committed offset is compared with the log and with the topic's id, which every commit of this
//! consumer carries as its metadata:
//! - the log starts above it: retention or `DeleteRecords` removed records before the group read them;
//! - it belongs to another topic id: the topic was deleted and created again, so its offsets belong to
//!   another log;
//! - the log ends below it: the broker lost the end of the log.
//!
//! In each case reading starts at the first record in the log. Processing a record again changes nothing: its
//! effects are fenced by request id and attempt.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::group::GroupContext;
use super::raw;
use crate::describe::describe;
use crate::event::{Gap, GapCause};

/// Timeout of each query.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Where reading of one partition starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) partition: i32,
    /// The first offset that is read.
    pub(super) offset: i64,
    /// The group has committed exactly this offset under this topic id.
    pub(super) is_committed: bool,
    /// Records that are no longer in the log.
    pub(super) gap: Option<Gap>,
}

/// Start offsets of all partitions of an assignment.
#[derive(Debug)]
pub(super) struct Starts {
    /// `None` for a broker without topic ids.
    pub(super) topic_id: Option<String>,
    pub(super) starts: Vec<Start>,
}

/// Why the start offsets of an assignment are unknown.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// The partition does not exist: the group's leader assigned by the metadata of the former topic.
    NoSuchPartition { partition: i32, partitions: usize },
    /// Kafka did not answer; the query can be repeated.
    Unanswered(String),
}

/// First offset of a log, and its last offset plus one.
#[derive(Debug, Clone, Copy)]
struct LogEnds {
    low: i64,
    high: i64,
}

/// Prefix of a commit's metadata; the topic id follows.
const TOPIC_ID_PREFIX: &str = "topic-id:";

/// Metadata of a commit under this topic id.
pub(super) fn metadata(topic_id: Option<&str>) -> String {
    topic_id.map_or_else(String::new, |id| format!("{TOPIC_ID_PREFIX}{id}"))
}

/// Committed offset of the group with its metadata.
type Committed = Option<(i64, String)>;

fn has_topic_id(committed: Option<&(i64, String)>) -> bool {
    committed.is_some_and(|(_, metadata)| metadata.starts_with(TOPIC_ID_PREFIX))
}

/// Decides where one partition starts. `committed` is the committed offset of the group with its metadata.
fn start_of(partition: i32, committed: Committed, log: LogEnds, topic_id: Option<&str>) -> Start {
    let LogEnds { low, high } = log;
    let at_low = |from: i64, to: Option<i64>, cause: GapCause| Start {
        partition,
        offset: low,
        is_committed: false,
        gap: Some(Gap { partition, from, to, cause }),
    };
    match committed {
        // The group has never read the partition: every start commits, even on an empty log.
        None if low > 0 => at_low(0, Some(low), GapCause::Deleted),
        None => Start { partition, offset: low, is_committed: false, gap: None },
        Some((offset, metadata)) => {
            // Other metadata comes from an operator's reset of offsets, or from an older version.
            let former_id = metadata.strip_prefix(TOPIC_ID_PREFIX);
            let is_replaced = former_id.zip(topic_id).is_some_and(|(former, now)| former != now);
            if is_replaced {
                // At offset 0 nothing of the former log had been read, but it may have contained records.
                at_low(offset, None, GapCause::TopicReplaced)
            } else if offset < low {
                at_low(offset, Some(low), GapCause::Deleted)
            } else if offset > high {
                at_low(high, Some(offset), GapCause::Truncated)
            } else {
                // A commit without this metadata is repeated with it.
                Start {
                    partition,
                    offset,
                    is_committed: former_id.is_some() || topic_id.is_none(),
                    gap: None,
                }
            }
        }
    }
}

/// Queries the broker once, on a separate thread, and unparks `wake` when the answer is available. The caller
/// repeats an unanswered query.
///
/// # Errors
/// If the thread cannot be created.
pub(super) fn resolve(
    client: &Arc<BaseConsumer<GroupContext>>,
    topic: &str,
    partitions: Vec<i32>,
    wake: Thread,
) -> std::io::Result<Receiver<Result<Starts, Unresolved>>> {
    let (answer, receiver) = sync_channel(1);
    let (client, topic) = (Arc::downgrade(client), topic.to_owned());
    thread::Builder::new().name("kafka-offsets".to_owned()).spawn(move || {
        let Some(client) = client.upgrade() else { return };
        let starts = ask(&client, &topic, &partitions);
        // Fails if the partitions were revoked meanwhile.
        let _ = answer.send(starts);
        wake.unpark();
    })?;
    Ok(receiver)
}

fn ask(client: &BaseConsumer<GroupContext>, topic: &str, partitions: &[i32]) -> Result<Starts, Unresolved> {
    let unanswered = |what: &str, error: KafkaError| Unresolved::Unanswered(format!("{what}: {error}"));
    let mut list = TopicPartitionList::new();
    for &partition in partitions {
        list.add_partition(topic, partition);
    }
    let committed = client
        .committed_offsets(list, ANSWER_TIMEOUT)
        .map_err(|error| unanswered("committed offsets", error))?;
    let committed: Vec<(i32, Committed)> = raw::committed(&committed);
    let topic_id = match describe(client.client(), &[topic], ANSWER_TIMEOUT) {
        Ok(described) => match described.into_iter().next().flatten() {
            Some(described) => {
                if let Some(&partition) = partitions.iter().find(|&&one| one as usize >= described.partitions)
                {
                    return Err(Unresolved::NoSuchPartition { partition, partitions: described.partitions });
                }
                Some(described.id)
            }
            None => return Err(Unresolved::Unanswered(format!("topic {topic} does not exist"))),
        },
        // A broker before Kafka 2.8 cannot describe topics, and no commit there carries an id.
        Err(reason) if committed.iter().any(|(_, committed)| has_topic_id(committed.as_ref())) => {
            return Err(Unresolved::Unanswered(format!("topic {topic}: {reason}")));
        }
        Err(_) => None,
    };
    let mut starts = Vec::with_capacity(partitions.len());
    for (partition, committed) in committed {
        match client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT) {
            Ok((low, high)) => {
                starts.push(start_of(partition, committed, LogEnds { low, high }, topic_id.as_deref()));
            }
            // A partition without a leader must not hold up the others. Should the log have lost that offset, librdkafka reports it
            // as out of range.
            Err(error) => match committed {
                Some((offset, text)) if topic_id.is_some() && text == metadata(topic_id.as_deref()) => {
                    starts.push(Start { partition, offset, is_committed: true, gap: None });
                }
                _ => return Err(unanswered(&format!("offsets of partition {partition}"), error)),
            },
        }
    }
    Ok(Starts { topic_id, starts })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From, to and cause of a gap.
    type Missing = (i64, Option<i64>, GapCause);

    fn check(committed: Option<(i64, &str)>, log: (i64, i64)) -> (i64, bool, Option<Missing>) {
        let committed = committed.map(|(offset, metadata)| (offset, metadata.to_owned()));
        let start = start_of(3, committed, LogEnds { low: log.0, high: log.1 }, Some("now"));
        (start.offset, start.is_committed, start.gap.map(|gap| (gap.from, gap.to, gap.cause)))
    }

    #[test]
    fn reading_continues_at_a_commit_that_is_still_in_the_log() {
        for offset in [5, 7, 9] {
            assert_eq!(check(Some((offset, "topic-id:now")), (5, 9)), (offset, true, None));
        }
        // Committed by an operator or an older version: continue there, and commit again with the id.
        assert_eq!(check(Some((7, "")), (5, 9)), (7, false, None));
        assert_eq!(check(Some((7, "reset by hand")), (5, 9)), (7, false, None));
        assert_eq!(check(None, (0, 9)), (0, false, None));
    }

    #[test]
    fn records_below_the_log_start_are_reported_and_skipped() {
        assert_eq!(
            check(Some((2, "topic-id:now")), (5, 9)),
            (5, false, Some((2, Some(5), GapCause::Deleted)))
        );
        assert_eq!(check(None, (5, 9)), (5, false, Some((0, Some(5), GapCause::Deleted))));
    }

    #[test]
    fn a_replaced_topic_is_read_from_its_first_record() {
        let expected = (0, false, Some((7, None, GapCause::TopicReplaced)));
        assert_eq!(
            check(Some((7, "topic-id:former")), (0, 9)),
            expected,
            "although the new log has offset 7"
        );
    }

    #[test]
    fn a_log_that_ends_below_the_commit_is_read_from_its_first_record() {
        assert_eq!(
            check(Some((12, "topic-id:now")), (0, 9)),
            (0, false, Some((9, Some(12), GapCause::Truncated)))
        );
    }
}
