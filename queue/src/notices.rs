//! Notices of librdkafka, as log lines and as the cause of failures that follow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shard::dependency::Reason;
use shard::log::{Level, Sink};

use crate::{Notice, reason};

/// A notice counts as the cause of a failure within this time.
const CAUSE_AGE_MAX: Duration = Duration::from_secs(30);
/// Minimum interval between log lines: librdkafka repeats a notice for each broker and each attempt.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Receives the notices of all clients of a process. Notices about connections are kept as causes: the Kafka
/// monitor logs them once when something fails, so they are logged here only at debug level. Other notices
/// get their own log line.
#[derive(Debug)]
pub struct Notices {
    sink: Arc<Sink>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    cause: Option<(Reason, String, Instant)>,
    logged: Option<Instant>,
}

impl Notices {
    /// Starts without a notice.
    pub fn new(sink: Arc<Sink>) -> Arc<Self> {
        Arc::new(Self { sink, seen: Mutex::default() })
    }

    /// The callback for [`crate::ProducerSettings`] and the like.
    pub fn notice(self: &Arc<Self>) -> Notice {
        let notices = Arc::clone(self);
        Arc::new(move |is_error, text| notices.take(is_error, text))
    }

    /// Handles one notice.
    pub fn take(&self, is_error: bool, text: &str) {
        let now = Instant::now();
        let reason = reason::of_notice(text);
        let mut seen = self.seen.lock();
        if let Some(reason) = reason {
            seen.cause = Some((reason, text.to_owned(), now));
        }
        if reason.is_none() {
            if seen.logged.is_some_and(|at| now.saturating_duration_since(at) < LINE_INTERVAL) {
                return;
            }
            seen.logged = Some(now);
        }
        drop(seen);
        let level = match (reason, is_error) {
            (Some(_), _) => Level::Debug,
            (None, true) => Level::Error,
            (None, false) => Level::Warn,
        };
        self.sink.line(level, "kafka_notice", text, |_| {});
    }

    /// The last cause, if it is recent enough to explain a current failure.
    pub fn cause(&self) -> Option<(Reason, String)> {
        let seen = self.seen.lock();
        let (reason, text, at) = seen.cause.as_ref()?;
        (at.elapsed() < CAUSE_AGE_MAX).then(|| (*reason, text.clone()))
    }
}
