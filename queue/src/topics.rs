//! State of the topics as last seen by the process's producer, shared with the consumer and with health
//! checks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::describe::Described;

/// Orders and dead letters, in the order of [`crate::Topic`].
pub type TopicIds = [Option<String>; 2];

/// Written by the producer's keeper thread; may be read by any thread.
#[derive(Debug, Default)]
pub struct Topics {
    ids: Mutex<TopicIds>,
    /// Kafka answered the last check.
    answers: AtomicBool,
    /// The topics exist, orders has a leader, and the producer works.
    is_usable: AtomicBool,
    /// Why the topics are not usable.
    last_error: Mutex<Option<String>>,
    recoveries: AtomicU64,
    is_unhealable: AtomicBool,
}

impl Topics {
    /// Ids of both topics; `None` while unknown, and always for a broker without topic ids (before Kafka 2.8).
    pub fn ids(&self) -> TopicIds {
        self.ids.lock().clone()
    }

    /// The id of the topic of orders.
    pub fn orders_id(&self) -> Option<String> {
        self.ids.lock()[0].clone()
    }

    /// True if Kafka answered the last check, with whatever result. Relaxed, as all below: the values are
    /// independent.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// True if orders could be published at the last check.
    pub fn is_usable(&self) -> bool {
        self.is_usable.load(Ordering::Relaxed)
    }

    /// How often the producer has become usable again: a caller that waits for a retry timer may retry at
    /// once.
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// True if recovery has failed for `DEPENDENCY_HEAL_TIMEOUT` although Kafka answers: a restart may help.
    pub fn is_unhealable(&self) -> bool {
        self.is_unhealable.load(Ordering::Relaxed)
    }

    /// Recovery of the producer or of a consumer in this process has failed.
    pub fn note_unhealable(&self) {
        self.is_unhealable.store(true, Ordering::Relaxed);
    }

    pub(crate) fn note_ids(&self, described: &[Option<Described>]) {
        let mut ids = self.ids.lock();
        for (id, described) in ids.iter_mut().zip(described) {
            *id = described.as_ref().map(|topic| topic.id.clone());
        }
    }

    pub(crate) fn note_answer(&self, answers: bool) {
        self.answers.store(answers, Ordering::Relaxed);
    }

    /// Why orders could not be published at the last check; `None` while they can. For logs, at a low rate.
    pub fn last_error(&self) -> Option<String> {
        if self.is_usable() {
            return None;
        }
        Some(self.last_error.lock().clone().unwrap_or_else(|| "Kafka has not been checked yet".to_owned()))
    }

    pub(crate) fn note_error(&self, last_error: Option<&str>) {
        *self.last_error.lock() = last_error.map(str::to_owned);
        self.is_usable.store(last_error.is_none(), Ordering::Relaxed);
    }

    pub(crate) fn note_recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }
}
