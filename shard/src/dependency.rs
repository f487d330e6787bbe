//! Tracks whether a dependency is available, why not, and how often it failed.
//!
//! A process has one `Monitor` per dependency, shared by cores and threads. Each connection or check has its own
//! `Reporter`, and the dependency is down while any of them reports it down, as in `/health`. A monitor logs one WARN
//! when the dependency goes down or the cause changes, and one INFO with the duration when it recovers.
//!
//! Bounds: a burst of `LINES_BURST` lines, then one line every `LINE_INTERVAL`. Changes above this rate are counted, and
//! the next line has the count. A lasting state is always logged, because reporters repeat their reports. The detail text is
//! truncated to `DETAIL_BYTES_MAX`.
//!
//! While everything is up, only `Reporter::up` is called, which costs one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cells::Page;
use crate::log::{Level, Sink};

pub use crate::reason::{Dependency, Reason};

/// Maximum burst of lines of one monitor: three consecutive outages are each logged without delay.
const LINES_BURST: u32 = 6;
/// Interval of lines after a burst: a dependency that flaps for an hour causes 360 lines instead of one per change.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum length of a peer's error text: enough for an error reply with the name of a script.
const DETAIL_BYTES_MAX: usize = 300;

/// The state of one dependency in one process.
pub struct Monitor {
    dependency: Dependency,
    sink: Arc<Sink>,
    counts: [AtomicU64; Reason::COUNT],
    /// All reporters are up and that was logged, so `up` does nothing. Relaxed: a stale value costs one report.
    is_settled: AtomicBool,
    state: Mutex<State>,
}

/// Reports for one connection or check of the dependency. Dropping it withdraws its report without a log line.
pub struct Reporter {
    monitor: Arc<Monitor>,
    slot: usize,
}

impl Monitor {
    /// A monitor that is available until a reporter reports otherwise.
    pub fn new(dependency: Dependency, sink: Arc<Sink>) -> Arc<Self> {
        Arc::new(Self {
            dependency,
            sink,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            is_settled: AtomicBool::new(true),
            state: Mutex::new(State::new(Instant::now())),
        })
    }

    /// Adds a reporter for one connection or check. Callers create a fixed number: one per core and one per kind of check.
    pub fn reporter(self: &Arc<Self>) -> Reporter {
        let mut state = self.state.lock();
        state.causes.push(None);
        Reporter { monitor: Arc::clone(self), slot: state.causes.len() - 1 }
    }

    /// Counts one error. Does not change whether the dependency is down.
    pub fn count(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// True while a reporter reports it down.
    pub fn is_down(&self) -> bool {
        !self.is_settled.load(Ordering::Relaxed) && self.state.lock().since.is_some()
    }

    /// Errors counted for one reason.
    pub fn counted(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    fn report(&self, slot: usize, cause: Option<(Reason, &str)>, now: Instant) {
        let mut state = self.state.lock();
        let line = state.report(slot, cause, now);
        self.is_settled.store(state.is_settled(), Ordering::Relaxed);
        drop(state);
        let Some(line) = line else { return };
        let texts = self.dependency.texts();
        let (level, (event, message)) = match line.kind {
            Kind::Down => (Level::Warn, texts.down),
            Kind::Changed => (Level::Warn, texts.changed),
            Kind::Up => (Level::Info, texts.up),
        };
        let message =
            if line.kind == Kind::Up { message.to_owned() } else { format!("{message}: {}", line.detail) };
        self.sink.line(level, event, &message, |fields| {
            fields.text("dependency", self.dependency.word()).text("reason", line.reason.word());
            if line.kind != Kind::Down {
                fields.number("duration_ms", line.duration.as_millis() as u64);
            }
            if line.suppressed > 0 {
                fields.number("changes_not_logged", line.suppressed);
            }
        });
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Monitor").field("dependency", &self.dependency).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reporter").field("monitor", &self.monitor).finish_non_exhaustive()
    }
}

impl Reporter {
    /// Reports that the dependency cannot be used. Repeat the report while the state lasts. `detail` is for people and must
    /// not contain secrets. Counts no error: see [`Reporter::failed`].
    pub fn down(&self, reason: Reason, detail: &str) {
        self.monitor.report(self.slot, Some((reason, detail)), Instant::now());
    }

    /// Counts an error and reports the dependency as down.
    pub fn failed(&self, reason: Reason, detail: &str) {
        self.monitor.count(reason);
        self.down(reason, detail);
    }

    /// Reports that the dependency can be used. Repeat it from a sweep.
    pub fn up(&self) {
        if !self.monitor.is_settled.load(Ordering::Relaxed) {
            self.monitor.report(self.slot, None, Instant::now());
        }
    }

    /// Counts one error without changing the state of the dependency.
    pub fn count(&self, reason: Reason) {
        self.monitor.count(reason);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut state = self.monitor.state.lock();
        state.withdraw(self.slot);
        self.monitor.is_settled.store(state.is_settled(), Ordering::Relaxed);
    }
}

/// Adds the error counters of these monitors to a page, with all reasons of each, even if zero.
pub fn add_error_counters(page: &mut Page, name: &str, monitors: &[&Monitor]) {
    let labels: Vec<([(&str, &str); 2], u64)> = monitors
        .iter()
        .flat_map(|monitor| {
            monitor.dependency.reasons().iter().map(|&reason| {
                let labels = [("dependency", monitor.dependency.word()), ("reason", reason.word())];
                (labels, monitor.counted(reason))
            })
        })
        .collect();
    let lines: Vec<(&[(&str, &str)], u64)> =
        labels.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    page.labelled_counter(name, "Errors of a dependency, by reason.", &lines);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Down,
    Changed,
    Up,
}

#[derive(Debug)]
struct Line {
    kind: Kind,
    reason: Reason,
    detail: String,
    duration: Duration,
    suppressed: u64,
}

/// The state machine; it is pure: time is an argument.
struct State {
    /// For each reporter, why the dependency is down; `None` while it is up.
    causes: Vec<Option<Reason>>,
    /// When the dependency went down; `None` while it is up.
    since: Option<Instant>,
    /// The last reported cause and its text; used while down and for the recovery line.
    reason: Reason,
    detail: String,
    /// How long the last outage lasted.
    duration: Duration,
    /// The last logged cause; `None` when the last line reported a recovery, and before the first line.
    logged: Option<Reason>,
    /// Lines that may be logged now (token bucket).
    tokens: u32,
    refilled: Instant,
    /// Changes that were not logged.
    suppressed: u64,
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            causes: Vec::new(),
            since: None,
            reason: Reason::Other,
            detail: String::new(),
            duration: Duration::ZERO,
            logged: None,
            tokens: LINES_BURST,
            refilled: now,
            suppressed: 0,
        }
    }

    fn is_settled(&self) -> bool {
        self.since.is_none() && self.logged.is_none() && !self.is_any_down()
    }

    fn is_any_down(&self) -> bool {
        self.causes.iter().any(Option::is_some)
    }

    /// Whether the last logged cause still applies to a reporter: then a new cause of other reporters is not logged yet.
    fn holds(&self, logged: Reason) -> bool {
        self.causes.iter().flatten().any(|cause| cause.is_same_cause(logged))
    }

    fn report(&mut self, slot: usize, cause: Option<(Reason, &str)>, now: Instant) -> Option<Line> {
        let before = self.since.map(|_| self.reason);
        self.causes[slot] = cause.map(|(reason, _)| reason);
        if let Some((reason, detail)) = cause {
            self.since.get_or_insert(now);
            self.reason = reason;
            self.detail.clear();
            self.detail.push_str(&detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]);
        } else if !self.is_any_down()
            && let Some(since) = self.since.take()
        {
            self.duration = now.saturating_duration_since(since);
        }
        let after = self.since.map(|_| self.reason);
        let is_logged = match (self.logged, after) {
            (Some(logged), Some(_)) => self.holds(logged),
            (logged, after) => logged.is_none() && after.is_none(),
        };
        if is_logged {
            return None;
        }
        if !self.take_token(now) {
            let has_changed = match (before, after) {
                (Some(before), Some(after)) => !before.is_same_cause(after),
                (before, after) => before.is_some() != after.is_some(),
            };
            self.suppressed += u64::from(has_changed);
            return None;
        }
        let kind = match (self.logged, after) {
            (_, None) => Kind::Up,
            (None, Some(_)) => Kind::Down,
            (Some(_), Some(_)) => Kind::Changed,
        };
        self.logged = after;
        Some(Line {
            kind,
            reason: self.reason,
            detail: self.detail.clone(),
            duration: self.since.map_or(self.duration, |since| now.saturating_duration_since(since)),
            suppressed: std::mem::take(&mut self.suppressed),
        })
    }

    fn withdraw(&mut self, slot: usize) {
        self.causes[slot] = None;
        if !self.is_any_down() {
            (self.since, self.logged) = (None, None);
        }
    }

    fn take_token(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.refilled).as_secs() / LINE_INTERVAL.as_secs();
        let earned = u32::try_from(earned).unwrap_or(LINES_BURST);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(LINES_BURST);
            self.refilled += LINE_INTERVAL * earned;
        }
        if self.tokens == LINES_BURST {
            // The refill interval starts at the first line of a burst.
            self.refilled = now;
        }
        let has_token = self.tokens > 0;
        self.tokens -= u32::from(has_token);
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        state: State,
        now: Instant,
    }

    impl Fixture {
        fn new(reporters: usize) -> Self {
            let now = Instant::now();
            let mut state = State::new(now);
            state.causes = vec![None; reporters];
            Self { state, now }
        }

        fn down(&mut self, slot: usize, reason: Reason) -> Option<Kind> {
            self.state.report(slot, Some((reason, "detail")), self.now).map(|line| line.kind)
        }

        fn up(&mut self, slot: usize) -> Option<Line> {
            self.state.report(slot, None, self.now)
        }

        fn pass(&mut self, s: u64) {
            self.now += Duration::from_secs(s);
        }
    }

    #[test]
    fn one_line_down_and_one_up_for_all_reporters() {
        let mut fixture = Fixture::new(2);
        assert_eq!(fixture.down(0, Reason::ConnectionLost), Some(Kind::Down));
        assert_eq!(fixture.down(1, Reason::ConnectionLost), None);
        fixture.pass(3);
        assert_eq!(fixture.down(0, Reason::Unreachable), None, "the same cause, seen later");
        assert!(fixture.up(0).is_none(), "the other one is still down");
        fixture.pass(2);
        let line = fixture.up(1).expect("recovered");
        assert_eq!((line.kind, line.duration), (Kind::Up, Duration::from_secs(5)));
        assert!(fixture.state.is_settled());
    }

    #[test]
    fn a_new_cause_is_logged() {
        let mut fixture = Fixture::new(1);
        assert_eq!(fixture.down(0, Reason::Auth), Some(Kind::Down));
        assert_eq!(fixture.down(0, Reason::Permission), Some(Kind::Changed));
        assert_eq!(fixture.down(0, Reason::Permission), None);
    }

    #[test]
    fn a_cause_seen_by_one_reporter_after_another_is_logged_once() {
        let mut fixture = Fixture::new(2);
        assert_eq!(fixture.down(0, Reason::ConnectionLost), Some(Kind::Down));
        assert_eq!(
            fixture.down(0, Reason::Auth),
            Some(Kind::Changed),
            "no reporter has the first cause any more"
        );
        assert_eq!(fixture.down(1, Reason::ConnectionLost), None, "reporter 0 still has the logged cause");
        assert_eq!(fixture.down(1, Reason::Auth), None);
        let mut fixture = Fixture::new(2);
        assert_eq!(fixture.down(0, Reason::ConnectionLost), Some(Kind::Down));
        assert_eq!(fixture.down(1, Reason::ConnectionLost), None);
        assert_eq!(fixture.down(0, Reason::Auth), None, "reporter 1 still has the first cause");
        assert_eq!(fixture.down(1, Reason::Auth), Some(Kind::Changed));
    }

    #[test]
    fn flapping_is_rate_limited_and_the_last_state_is_logged() {
        let mut fixture = Fixture::new(1);
        let mut lines = 0;
        for _ in 0..1000 {
            lines += u32::from(fixture.down(0, Reason::Timeout).is_some());
            lines += u32::from(fixture.up(0).is_some());
        }
        assert_eq!(lines, LINES_BURST);
        assert_eq!(fixture.state.suppressed, 1000 - u64::from(LINES_BURST) / 2, "outages without a line");
        assert_eq!(fixture.down(0, Reason::Timeout), None);
        fixture.pass(LINE_INTERVAL.as_secs());
        assert_eq!(fixture.down(0, Reason::Timeout), Some(Kind::Down), "a lasting state is logged");
        assert_eq!(fixture.state.suppressed, 0);
        assert!(fixture.up(0).is_none());
        assert!(!fixture.state.is_settled(), "so that the next report may log it");
        fixture.pass(LINE_INTERVAL.as_secs());
        let line = fixture.up(0).expect("logged late");
        assert_eq!((line.kind, line.duration, line.suppressed), (Kind::Up, LINE_INTERVAL, 1));
    }

    #[test]
    fn dropping_a_reporter_withdraws_its_report() {
        let mut fixture = Fixture::new(2);
        fixture.down(0, Reason::Auth);
        fixture.down(1, Reason::Auth);
        fixture.state.withdraw(0);
        assert!(!fixture.state.is_settled());
        fixture.state.withdraw(1);
        assert!(fixture.state.is_settled());
    }

    #[test]
    fn every_series_exists_from_the_start() {
        let (sink, _) = Sink::start("gateway", Level::Error, std::io::sink()).expect("thread");
        let (redis, kafka) =
            (Monitor::new(Dependency::Redis, Arc::clone(&sink)), Monitor::new(Dependency::Kafka, sink));
        redis.reporter().failed(Reason::Auth, "WRONGPASS");
        let mut page = Page::default();
        add_error_counters(&mut page, "errors_total", &[&redis, &kafka]);
        let text = page.encode().expect("well-formed");
        assert!(text.contains("errors_total{dependency=\"redis\",reason=\"auth\"} 1\n"), "{text}");
        assert!(text.contains("errors_total{dependency=\"kafka\",reason=\"fatal\"} 0\n"), "{text}");
    }
}
