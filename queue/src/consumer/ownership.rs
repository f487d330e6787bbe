//! Detects a group that owns no partition of an existing topic.
//!
//! The leader of a group assigns partitions by its current metadata. A topic that is being deleted is missing
//! there, so every member is assigned nothing. librdkafka rejoins when a metadata refresh shows a different
//! number of partitions; a topic that was created again before the next refresh looks unchanged, and nobody
//! would ever read it. A member without partitions in a group that owns some is normal: there are more
//! members than partitions.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::group::GroupContext;

/// Interval between requests about the group while this member owns nothing. The first or second request finds a lost assignment,
/// provided the coordinator answers at once; half the interval would mostly query during a rebalance, which takes some seconds.
const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// Timeout of a query.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The state of a group whose members all have their assignment.
const STABLE: &str = "Stable";

/// Queries the group periodically while this member owns nothing.
#[derive(Default)]
pub(super) struct Ownership {
    /// `None` while the member owns partitions.
    ask_at: Option<Instant>,
    answer: Option<Receiver<bool>>,
}

impl Ownership {
    /// The member owns partitions, or is in no group.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Called while the member owns nothing; true if the whole group owns nothing either. Each answer unparks
    /// `wake`.
    pub(super) fn is_lost(
        &mut self,
        client: &Arc<BaseConsumer<GroupContext>>,
        group: &str,
        wake: Thread,
    ) -> bool {
        let now = Instant::now();
        match self.answer.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return false,
            Some(Ok(true)) => {
                self.reset();
                return true;
            }
            Some(Ok(false) | Err(TryRecvError::Disconnected)) => self.answer = None,
            None => {}
        }
        if now >= *self.ask_at.get_or_insert(now + ASK_INTERVAL) {
            self.ask_at = Some(now + ASK_INTERVAL);
            // If no thread can be spawned, the next query comes later.
            self.answer = ask(client, group, wake).ok();
        }
        false
    }
}

/// Queries on a separate thread: the answer may take [`ANSWER_TIMEOUT`].
fn ask(
    client: &Arc<BaseConsumer<GroupContext>>,
    group: &str,
    wake: Thread,
) -> std::io::Result<Receiver<bool>> {
    let (answer, receiver) = sync_channel(1);
    let (client, group) = (Arc::downgrade(client), group.to_owned());
    thread::Builder::new().name("kafka-group".to_owned()).spawn(move || {
        let Some(client) = client.upgrade() else { return };
        // No answer means nothing about the group, and a broker that cannot describe groups (the embedded
        // one) never loses a topic.
        let Ok(list) = client.fetch_group_list(Some(&group), ANSWER_TIMEOUT) else { return };
        let owns_nothing = list.groups().iter().any(|group| {
            owns_nothing(group.state(), group.members().iter().map(|member| member.assignment()))
        });
        // Fails if the client was replaced meanwhile.
        let _ = answer.send(owns_nothing);
        wake.unpark();
    })?;
    Ok(receiver)
}

fn owns_nothing<'a>(state: &str, mut assignments: impl Iterator<Item = Option<&'a [u8]>>) -> bool {
    state == STABLE && assignments.all(|assignment| assignment.is_none_or(is_empty))
}

/// True if an assignment names no partition. The format is that of the consumer protocol (Kafka's
/// `ConsumerProtocolAssignment.json`): version (2 bytes), topics, each a name and its partitions, user data.
fn is_empty(assignment: &[u8]) -> bool {
    let topics = |bytes: &[u8]| {
        let mut rest = bytes.get(2..)?;
        let mut partitions = 0;
        for _ in 0..take_i32(&mut rest)? {
            let (name_len, after) = rest.split_first_chunk()?;
            rest = after.get(usize::try_from(i16::from_be_bytes(*name_len)).ok()?..)?;
            let count = take_i32(&mut rest)?;
            partitions += count;
            rest = rest.get(usize::try_from(count).ok()?.checked_mul(4)?..)?;
        }
        Some(partitions)
    };
    // Another client library may use a format that cannot be parsed here: assume that the member owns
    // something.
    assignment.is_empty() || topics(assignment) == Some(0)
}

fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(partitions: &[i32]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 6];
        bytes.extend_from_slice(b"orders");
        bytes.extend_from_slice(&(partitions.len() as i32).to_be_bytes());
        bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        bytes.extend_from_slice(&[0xff; 4]);
        bytes
    }

    #[test]
    fn an_assignment_is_empty_without_topics_or_without_partitions() {
        assert!(is_empty(&[]));
        assert!(is_empty(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        assert!(is_empty(&assignment(&[])));
        assert!(!is_empty(&assignment(&[3])));
        assert!(!is_empty(&assignment(&[3, 4])));
    }

    #[test]
    fn an_unreadable_assignment_counts_as_not_empty() {
        let whole = assignment(&[3, 4]);
        for len in 1..whole.len() - 4 {
            assert!(!is_empty(&whole[..len]), "cut at {len}");
        }
        assert!(!is_empty(&[0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]), "a name of length -1");
        assert!(!is_empty(&[0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff]), "-1 partitions");
    }

    #[test]
    fn a_group_is_lost_only_when_it_is_stable_and_no_member_owns_anything() {
        let (none, some) = (assignment(&[]), assignment(&[0]));
        assert!(owns_nothing(STABLE, [Some(&none[..]), None].into_iter()));
        assert!(!owns_nothing(STABLE, [Some(&none[..]), Some(&some[..])].into_iter()));
        assert!(!owns_nothing("CompletingRebalance", [None].into_iter()));
    }
}
