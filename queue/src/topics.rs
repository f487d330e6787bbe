//! The topics of a process as its producer last saw them, shared with the consumer and with health checks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::describe::Described;

/// Orders and dead letters, in the order of [`crate::Topic`].
pub type TopicIds = [Option<String>; 2];

/// Written by the producer's keeper thread, read by anybody.
#[derive(Debug, Default)]
pub struct Topics {
    ids: Mutex<TopicIds>,
    /// Kafka answered the last look.
    answers: AtomicBool,
    /// The topics exist, orders has a leader, and the producer works.
    is_usable: AtomicBool,
    /// Why not.
    trouble: Mutex<Option<String>>,
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

    /// True when Kafka answered the last look, whatever it said. Relaxed, as all below: each value stands for itself.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// True when orders can be published, as far as the last look tells.
    pub fn is_usable(&self) -> bool {
        self.is_usable.load(Ordering::Relaxed)
    }

    /// How often the producer has become usable again: who waits for a timer before trying again need not wait on.
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// True when recovery has failed for `DEPENDENCY_HEAL_TIMEOUT` although Kafka answers: a restart may help.
    pub fn is_unhealable(&self) -> bool {
        self.is_unhealable.load(Ordering::Relaxed)
    }

    /// Recovery has failed, of the producer or of a consumer beside it.
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

    /// Why orders cannot be published, as the last look found; `None` while they can. For logs, at a low rate.
    pub fn trouble(&self) -> Option<String> {
        if self.is_usable() {
            return None;
        }
        Some(self.trouble.lock().clone().unwrap_or_else(|| "Kafka was not asked yet".to_owned()))
    }

    pub(crate) fn note_trouble(&self, trouble: Option<&str>) {
        *self.trouble.lock() = trouble.map(str::to_owned);
        self.is_usable.store(trouble.is_none(), Ordering::Relaxed);
    }

    pub(crate) fn note_recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }
}
