//! Watches Kafka, creates missing topics and replaces the client when it can no longer do its work.
//!
//! librdkafka recovers from outages by itself. What it does not recover from is a topic that was deleted and created again,
//! whose partitions it has written off. A client that hears nothing for long, or whose every publish fails although
//! Kafka answers, is replaced as well: a new one costs a few milliseconds and starts without history.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::producer::Producer as _;

use super::Shared;
use crate::admin;
use crate::describe::{PartitionLeader, describe, led_partitions};
use crate::event::Event;
use crate::heal::{HealClock, Look};
use crate::native::Context;
use crate::topics::TopicIds;

/// Between two looks while all is well.
const INTERVAL: Duration = Duration::from_secs(1);
/// And while it is not: adds at most this to a recovery.
const INTERVAL_TROUBLED: Duration = Duration::from_millis(200);
/// How long one question waits.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long the creation of topics may take.
const CREATE_MAX: Duration = Duration::from_secs(5);
/// A client that got no answer for this long is replaced.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A client whose every publish has failed for this long, although Kafka answers, is replaced.
const FAILING_MAX: Duration = Duration::from_secs(5);
/// But not before Kafka could be used for this long: a client that is about to recover from an outage does so within a second,
/// and a new one has to ask for its producer id first.
const USABLE_MIN: Duration = Duration::from_secs(2);
/// Between two replacements for the same trouble: the new client needs time to show whether it works.
const REPLACE_INTERVAL: Duration = Duration::from_secs(10);

/// What the thread remembers between two looks.
struct Keeper {
    heal: HealClock,
    /// Ids of the topics that the present client was made for.
    ids: TopicIds,
    /// Brokers that answered their last offsets query to the present client.
    connected: Vec<i32>,
    /// Number of looks so far; selects the leader that the next look queries first.
    looks: usize,
    answered_at: Instant,
    /// Since when every look has found Kafka usable.
    usable_since: Option<Instant>,
    replaced_at: Option<Instant>,
    /// The client was replaced, or Kafka could not be used, and it has not been usable since.
    is_recovering: bool,
}

/// The thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut keeper = Keeper {
        heal: HealClock::new(shared.settings.heal_timeout),
        ids: [None, None],
        connected: Vec::new(),
        looks: 0,
        answered_at: Instant::now(),
        usable_since: None,
        replaced_at: None,
        is_recovering: false,
    };
    while !shared.is_stopping() {
        let look = keeper.look(shared);
        let is_usable = look == Look::Usable;
        keeper.note(shared, &look);
        thread::park_timeout(if is_usable { INTERVAL } else { INTERVAL_TROUBLED });
    }
}

impl Keeper {
    fn look(&mut self, shared: &Shared) -> Look {
        let client = Arc::clone(&shared.client.lock());
        let (client, names) = (client.inner.client(), &shared.settings.topics);
        let led = match led_partitions(client, &names[0], ANSWER_MAX) {
            Ok(led) => led,
            Err(error) => return self.silent(shared, &error.to_string()),
        };
        self.answered_at = Instant::now();
        // A broker that knows no topic ids still says which partitions there are.
        let described = describe(client, &[&names[0], &names[1]], ANSWER_MAX).ok();
        if let Some(described) = &described {
            if described.iter().any(Option::is_none) {
                return Self::create_topics(shared);
            }
            shared.topics.note_ids(described);
            let ids = shared.topics.ids();
            for (index, (known, id)) in self.ids.iter().zip(&ids).enumerate() {
                if let (Some(known), Some(id)) = (known, id)
                    && known != id
                {
                    let reason = format!("topic {} was replaced: id {known} is now {id}", names[index]);
                    self.replace(shared, &reason);
                    // Its partitions may be others; the next look tells.
                    self.ids = ids;
                    return Look::Unusable(reason);
                }
            }
            self.ids = ids;
        } else if led.is_empty() {
            return Self::create_topics(shared);
        }
        if led.is_empty() {
            return Look::Unusable(format!("no partition of {} has a leader", names[0]));
        }
        let partitions: Vec<i32> = led.iter().map(|led| led.partition).collect();
        shared.spread.note(&partitions);
        if shared.health.failing() >= FAILING_MAX && self.has_had_its_chance() {
            self.replace(shared, "every publish has failed for 5 s although Kafka answers");
        } else if shared.settings.keeps_leaders_connected {
            self.connect(shared, client, &led);
        }
        Look::Usable
    }

    /// Connects to the leader of every partition of the orders topic, because librdkafka itself connects only when it has a
    /// record to send. Each look also queries one connected leader again, so that no connection becomes idle (Kafka closes idle
    /// connections after 10 min by default). All queries of one look share [`ANSWER_MAX`]; the next look starts with another
    /// leader.
    fn connect(&mut self, shared: &Shared, client: &Client<Context>, partitions: &[PartitionLeader]) {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut leaders = partitions.to_vec();
        leaders.sort_by_key(|found| found.leader);
        leaders.dedup_by_key(|found| found.leader);
        self.looks = self.looks.wrapping_add(1);
        let first = self.looks % leaders.len().max(1);
        for (number, found) in leaders.iter().cycle().skip(first).take(leaders.len()).enumerate() {
            if number > 0 && self.connected.contains(&found.leader) {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shared.is_stopping() {
                return;
            }
            self.connected.retain(|connected| *connected != found.leader);
            // Only the leader itself answers an offsets query, so the client has to connect to it.
            if client.fetch_watermarks(&shared.settings.topics[0], found.partition, left).is_ok() {
                self.connected.push(found.leader);
            }
        }
    }

    fn silent(&mut self, shared: &Shared, reason: &str) -> Look {
        if self.answered_at.elapsed() >= SILENCE_MAX && self.may_replace() {
            self.replace(shared, "no answer for 10 s");
        }
        Look::Silent(reason.to_owned())
    }

    /// Kafka has been usable for long enough, and the client was not replaced meanwhile, or long ago.
    fn has_had_its_chance(&self) -> bool {
        self.usable_since.is_some_and(|since| {
            since.elapsed() >= USABLE_MIN
                && (self.replaced_at.is_none_or(|at| at < since) || self.may_replace())
        })
    }

    fn may_replace(&self) -> bool {
        self.replaced_at.is_none_or(|at| at.elapsed() >= REPLACE_INTERVAL)
    }

    fn replace(&mut self, shared: &Shared, reason: &str) {
        self.replaced_at = Some(Instant::now());
        self.ids = [None, None];
        self.connected.clear();
        match shared.replace_client(reason) {
            Ok(()) => self.is_recovering = true,
            Err(error) => (shared.settings.notice)(true, &error.to_string()),
        }
    }

    /// Creates the topics under the same rules at the start and whenever they are missing.
    fn create_topics(shared: &Shared) -> Look {
        let names = &shared.settings.topics;
        let Some(partitions) = shared.settings.create_partitions else {
            return Look::Unusable(format!("topic {} or {} does not exist", names[0], names[1]));
        };
        let topics = [(names[0].as_str(), partitions), (names[1].as_str(), partitions)];
        shared
            .topics
            .note_trouble(Some(&format!("{} or {} is missing and is being created", names[0], names[1])));
        match admin::ensure_topics(&shared.settings.bootstrap, &topics, CREATE_MAX) {
            Ok(ensured) => {
                if !ensured.created.is_empty() {
                    shared.tell(&Event::TopicsCreated { names: ensured.created });
                }
                Look::Unusable("the topics were just created".to_owned())
            }
            Err(error) => Look::Unusable(format!("a topic is missing and cannot be created: {error}")),
        }
    }

    fn note(&mut self, shared: &Shared, look: &Look) {
        shared.topics.note_answer(!matches!(look, Look::Silent(_)));
        match look {
            Look::Usable => {
                self.usable_since.get_or_insert_with(Instant::now);
                shared.topics.note_trouble(None);
                // Of an outage too: the breaker's timer has grown to seconds by then.
                if std::mem::take(&mut self.is_recovering) {
                    shared.topics.note_recovery();
                }
            }
            Look::Silent(reason) | Look::Unusable(reason) => {
                // One question without an answer in time may be the fault of the client that is suspected.
                if matches!(look, Look::Unusable(_)) || self.answered_at.elapsed() >= ANSWER_MAX * 3 {
                    self.usable_since = None;
                }
                // Before the first success there is nothing to recover from.
                self.is_recovering |= shared.topics.is_usable();
                shared.topics.note_trouble(Some(reason));
            }
        }
        if let Some(reason) = self.heal.note(look, Instant::now()) {
            shared.topics.note_unhealable();
            shared.tell(&Event::Unhealable { reason });
        }
    }
}
