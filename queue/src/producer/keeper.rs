//! Watches Kafka, creates missing topics and replaces the client when it no longer works.
//!
//! librdkafka recovers from outages by itself, but not from a topic that was deleted and created again: it
//! has given up the partitions of such a topic. A client that gets no answer for long, or whose every publish
//! fails although Kafka answers, is replaced as well: a new client costs a few milliseconds and starts with
//! fresh state.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::producer::Producer as _;

use super::Shared;
use crate::admin;
use crate::describe::{PartitionLeader, describe, led_partitions};
use crate::event::Event;
use crate::heal::{CheckResult, HealClock};
use crate::native::Context;
use crate::topics::TopicIds;

/// Interval of checks while Kafka is usable.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval of checks while it is not; adds at most this to a recovery.
const INTERVAL_UNUSABLE: Duration = Duration::from_millis(200);
/// Timeout of one query.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Timeout of the creation of topics.
const CREATE_MAX: Duration = Duration::from_secs(5);
/// A client that got no answer for this long is replaced.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A client whose every publish has failed for this long, although Kafka answers, is replaced.
const FAILING_MAX: Duration = Duration::from_secs(5);
/// But not before Kafka has been usable for this long: a client that recovers from an outage does so within a
/// second, and a new one first has to request its producer id.
const USABLE_MIN: Duration = Duration::from_secs(2);
/// Minimum interval between two replacements for the same problem: the new client needs time to show whether
/// it works.
const REPLACE_INTERVAL: Duration = Duration::from_secs(10);

/// State of the thread between two checks.
struct Keeper {
    heal: HealClock,
    /// Ids of the topics that the current client was created for.
    ids: TopicIds,
    /// Brokers that answered the last offsets query of the current client.
    connected: Vec<i32>,
    /// Number of checks so far; selects the leader that the next check queries first.
    checks: usize,
    answered_at: Instant,
    /// Since when every check has found Kafka usable.
    usable_since: Option<Instant>,
    replaced_at: Option<Instant>,
    /// The client was replaced, or Kafka was not usable, and Kafka has not been usable since.
    is_recovering: bool,
}

/// Main function of the thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut keeper = Keeper {
        heal: HealClock::new(shared.settings.heal_timeout),
        ids: [None, None],
        connected: Vec::new(),
        checks: 0,
        answered_at: Instant::now(),
        usable_since: None,
        replaced_at: None,
        is_recovering: false,
    };
    while !shared.is_stopping() {
        let result = keeper.check(shared);
        let is_usable = result == CheckResult::Usable;
        keeper.note(shared, &result);
        thread::park_timeout(if is_usable { INTERVAL } else { INTERVAL_UNUSABLE });
    }
}

impl Keeper {
    fn check(&mut self, shared: &Shared) -> CheckResult {
        let client = Arc::clone(&shared.client.lock());
        let (client, names) = (client.inner.client(), &shared.settings.topics);
        let led = match led_partitions(client, &names[0], ANSWER_MAX) {
            Ok(led) => led,
            Err(error) => return self.no_answer(shared, &error.to_string()),
        };
        self.answered_at = Instant::now();
        // A broker without topic ids still returns the partitions.
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
                    // The number of partitions may differ; the next check reads it.
                    self.ids = ids;
                    return CheckResult::Unusable(reason);
                }
            }
            self.ids = ids;
        } else if led.is_empty() {
            return Self::create_topics(shared);
        }
        if led.is_empty() {
            return CheckResult::Unusable(format!("no partition of {} has a leader", names[0]));
        }
        let partitions: Vec<i32> = led.iter().map(|led| led.partition).collect();
        shared.led_partitions.note(&partitions);
        if shared.health.failing() >= FAILING_MAX && self.has_had_time_to_recover() {
            self.replace(shared, "every publish has failed for 5 s although Kafka answers");
        } else if shared.settings.keeps_leaders_connected {
            self.connect(shared, client, &led);
        }
        CheckResult::Usable
    }

    /// Connects to the leader of every partition of the orders topic, because librdkafka itself connects only
    /// when it has a record to send. Each check also queries one connected leader again, so that no
    /// connection becomes idle (Kafka closes idle connections after 10 min by default). All queries of one
    /// check share [`ANSWER_MAX`]; the next check starts with another leader.
    fn connect(&mut self, shared: &Shared, client: &Client<Context>, partitions: &[PartitionLeader]) {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut leaders = partitions.to_vec();
        leaders.sort_by_key(|found| found.leader);
        leaders.dedup_by_key(|found| found.leader);
        self.checks = self.checks.wrapping_add(1);
        let first = self.checks % leaders.len().max(1);
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

    fn no_answer(&mut self, shared: &Shared, reason: &str) -> CheckResult {
        if self.answered_at.elapsed() >= SILENCE_MAX && self.may_replace() {
            self.replace(shared, "no answer for 10 s");
        }
        CheckResult::Silent(reason.to_owned())
    }

    /// True if Kafka has been usable for long enough, and the client was not replaced since or long ago.
    fn has_had_time_to_recover(&self) -> bool {
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

    /// Creates missing topics, at startup and later, with the same settings.
    fn create_topics(shared: &Shared) -> CheckResult {
        let names = &shared.settings.topics;
        let Some(partitions) = shared.settings.create_partitions else {
            return CheckResult::Unusable(format!("topic {} or {} does not exist", names[0], names[1]));
        };
        let topics = [(names[0].as_str(), partitions), (names[1].as_str(), partitions)];
        shared
            .topics
            .note_error(Some(&format!("{} or {} is missing and is being created", names[0], names[1])));
        match admin::ensure_topics(&shared.settings.bootstrap, &topics, CREATE_MAX) {
            Ok(ensured) => {
                if !ensured.created.is_empty() {
                    shared.emit(&Event::TopicsCreated { names: ensured.created });
                }
                CheckResult::Unusable("the topics were just created".to_owned())
            }
            Err(error) => CheckResult::Unusable(format!("a topic is missing and cannot be created: {error}")),
        }
    }

    fn note(&mut self, shared: &Shared, result: &CheckResult) {
        shared.topics.note_answer(!matches!(result, CheckResult::Silent(_)));
        match result {
            CheckResult::Usable => {
                self.usable_since.get_or_insert_with(Instant::now);
                shared.topics.note_error(None);
                // Also after an outage: by then the breaker's timer has grown to seconds.
                if std::mem::take(&mut self.is_recovering) {
                    shared.topics.note_recovery();
                }
            }
            CheckResult::Silent(reason) | CheckResult::Unusable(reason) => {
                // A single query without an answer in time may be caused by the suspected client itself.
                if matches!(result, CheckResult::Unusable(_)) || self.answered_at.elapsed() >= ANSWER_MAX * 3
                {
                    self.usable_since = None;
                }
                // Before the first success there is nothing to recover from.
                self.is_recovering |= shared.topics.is_usable();
                shared.topics.note_error(Some(reason));
            }
        }
        if let Some(reason) = self.heal.note(result, Instant::now()) {
            shared.topics.note_unhealable();
            shared.emit(&Event::Unhealable { reason });
        }
    }
}
