//! Whether a dependency is available, why not, and how often it failed.
//!
//! One [`Monitor`] for each dependency of a process, shared by cores and threads. Each connection or check has a
//! [`Reporter`] of its own, and the dependency is down while any of them says so, as in `/health`. A monitor writes
//! one WARN when the dependency goes down or the cause changes, and one INFO with the duration when it recovers.
//!
//! Bounds: [`LINES_BURST`] lines at once and one every [`LINE_INTERVAL`] after that. A change over the bound is counted
//! and the count stands in the next line; the state that lasts is always logged, since reporters report again. A detail
//! is cut at [`DETAIL_BYTES_MAX`].
//!
//! While everything is up, [`Reporter::up`] is one relaxed load; nobody calls the others then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cells::Page;
use crate::log::{Level, Sink};

/// Lines of one monitor at once: three outages in a row are each logged without delay.
const LINES_BURST: u32 = 6;
/// After a burst, one line this often: a dependency that flaps for an hour costs 360 lines, not one for each change.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// What a peer said is cut here: enough for an error reply with the name of a script.
const DETAIL_BYTES_MAX: usize = 300;

/// What is monitored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// The store.
    Redis,
    /// Producer, consumer and topics.
    Kafka,
    /// The breaker over Kafka: no dependency, but its changes are logged by the same rules.
    CircuitBreaker,
}

impl Dependency {
    /// Label and log field.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::CircuitBreaker => "circuit_breaker",
        }
    }

    /// The reasons it may have; each is a series of the metric from the start.
    pub const fn reasons(self) -> &'static [Reason] {
        match self {
            Self::Redis => &[
                Reason::Unreachable,
                Reason::Timeout,
                Reason::ConnectionLost,
                Reason::Auth,
                Reason::Permission,
                Reason::ReadOnly,
                Reason::OutOfMemory,
                Reason::Persistence,
                Reason::NotEnoughReplicas,
                Reason::Loading,
                Reason::Busy,
                Reason::ClusterMode,
                Reason::TooManyClients,
                Reason::Unsupported,
                Reason::Other,
            ],
            Self::Kafka => &[
                Reason::Unreachable,
                Reason::Timeout,
                Reason::Auth,
                Reason::Permission,
                Reason::TopicMissing,
                Reason::NoLeader,
                Reason::NotEnoughReplicas,
                Reason::MessageTooLarge,
                Reason::Rejected,
                Reason::Persistence,
                Reason::QueueFull,
                Reason::NotInGroup,
                Reason::Fatal,
                Reason::Unsupported,
                Reason::Other,
            ],
            Self::CircuitBreaker => &[],
        }
    }

    const fn texts(self) -> Texts {
        match self {
            Self::Redis => Texts {
                down: ("dependency_down", "Redis is unavailable"),
                changed: ("dependency_down", "Redis is still unavailable, for another reason"),
                up: ("dependency_up", "Redis is available again"),
            },
            Self::Kafka => Texts {
                down: ("dependency_down", "Kafka is unavailable"),
                changed: ("dependency_down", "Kafka is still unavailable, for another reason"),
                up: ("dependency_up", "Kafka is available again"),
            },
            Self::CircuitBreaker => Texts {
                down: ("circuit_breaker_open", "Circuit breaker opened"),
                changed: ("circuit_breaker_open", "Circuit breaker still open, for another reason"),
                up: ("circuit_breaker_closed", "Circuit breaker closed"),
            },
        }
    }
}

/// Event and message of each kind of line.
struct Texts {
    down: (&'static str, &'static str),
    changed: (&'static str, &'static str),
    up: (&'static str, &'static str),
}

/// Why a dependency failed. Which of them a dependency can have is in [`Dependency::reasons`]; what each means and its
/// remedy is in OPERATIONS.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No connection can be made: refused, no route, name not found.
    Unreachable,
    /// Connected, but no answer in time.
    Timeout,
    /// The connection ended.
    ConnectionLost,
    /// Wrong or missing credentials, or a failed TLS handshake.
    Auth,
    /// The user may not do this: a command, a key, a topic or a group is missing in its rights.
    Permission,
    /// Redis is a replica.
    ReadOnly,
    /// Redis is at `maxmemory`.
    OutOfMemory,
    /// Writes cannot be saved: Redis says MISCONF, Kafka a storage error.
    Persistence,
    /// Fewer replicas than a write needs.
    NotEnoughReplicas,
    /// Redis is loading its data.
    Loading,
    /// A script or function blocks Redis.
    Busy,
    /// Redis runs as a cluster, which is not supported.
    ClusterMode,
    /// Redis has its `maxclients`.
    TooManyClients,
    /// A command or protocol version that the server does not have.
    Unsupported,
    /// The topic or partition does not exist.
    TopicMissing,
    /// A partition has no leader now.
    NoLeader,
    /// Larger than the topic or broker takes.
    MessageTooLarge,
    /// The broker refuses the record itself.
    Rejected,
    /// The local queue of records is full.
    QueueFull,
    /// The consumer has not joined its group, or lost it.
    NotInGroup,
    /// This producer or consumer can never work again and must be replaced.
    Fatal,
    /// None of these; the log line has the text.
    Other,
}

impl Reason {
    const COUNT: usize = Self::Other as usize + 1;

    /// Label and log field.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::ReadOnly => "read_only",
            Self::OutOfMemory => "out_of_memory",
            Self::Persistence => "persistence",
            Self::NotEnoughReplicas => "not_enough_replicas",
            Self::Loading => "loading",
            Self::Busy => "busy",
            Self::ClusterMode => "cluster_mode",
            Self::TooManyClients => "too_many_clients",
            Self::Unsupported => "unsupported",
            Self::TopicMissing => "topic_missing",
            Self::NoLeader => "no_leader",
            Self::MessageTooLarge => "message_too_large",
            Self::Rejected => "rejected",
            Self::QueueFull => "queue_full",
            Self::NotInGroup => "not_in_group",
            Self::Fatal => "fatal",
            Self::Other => "other",
        }
    }

    /// One cause, seen at different moments: a server that dies is first a lost connection, then unreachable.
    fn is_same_cause(self, other: Self) -> bool {
        const AWAY: [Reason; 3] = [Reason::Unreachable, Reason::Timeout, Reason::ConnectionLost];
        self == other || (AWAY.contains(&self) && AWAY.contains(&other))
    }
}

/// The state of one dependency in one process.
pub struct Monitor {
    dependency: Dependency,
    sink: Arc<Sink>,
    counts: [AtomicU64; Reason::COUNT],
    /// Every reporter is up and that is logged: `up` has nothing to do. Relaxed: a stale value costs one report.
    is_settled: AtomicBool,
    state: Mutex<State>,
}

/// A connection or check of the dependency. Dropping it withdraws what it reported, without a log line.
pub struct Reporter {
    monitor: Arc<Monitor>,
    slot: usize,
}

impl Monitor {
    /// Available until a reporter says otherwise.
    pub fn new(dependency: Dependency, sink: Arc<Sink>) -> Arc<Self> {
        Arc::new(Self {
            dependency,
            sink,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            is_settled: AtomicBool::new(true),
            state: Mutex::new(State::new(Instant::now())),
        })
    }

    /// A reporter for one more connection or check. Their number is fixed by the caller's design: one for each core
    /// and one for each kind of check.
    pub fn reporter(self: &Arc<Self>) -> Reporter {
        let mut state = self.state.lock();
        state.causes.push(None);
        Reporter { monitor: Arc::clone(self), slot: state.causes.len() - 1 }
    }

    /// Counts one error. Does not change whether the dependency is down.
    pub fn count(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// True while a reporter says that it is down.
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
    /// The dependency cannot be used, as this reporter sees it. `detail` is for people and must hold no secret. Repeat
    /// it while it lasts. Does not count: see [`Reporter::failed`].
    pub fn down(&self, reason: Reason, detail: &str) {
        self.monitor.report(self.slot, Some((reason, detail)), Instant::now());
    }

    /// Counts an error that also took the dependency down.
    pub fn failed(&self, reason: Reason, detail: &str) {
        self.monitor.count(reason);
        self.down(reason, detail);
    }

    /// The dependency can be used, as this reporter sees it. Repeat it from a sweep.
    pub fn up(&self) {
        if !self.monitor.is_settled.load(Ordering::Relaxed) {
            self.monitor.report(self.slot, None, Instant::now());
        }
    }

    /// Counts one error that leaves the dependency as it is.
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

/// Adds the error counters of these monitors to a page: every reason of each, from 0 on.
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

/// The pure part: time is an argument.
struct State {
    /// By reporter, why it is down; `None` while it is up.
    causes: Vec<Option<Reason>>,
    /// Since when the dependency is down; `None` while it is up.
    since: Option<Instant>,
    /// The last reported cause and its text; meaningful while down, and for the line of the recovery.
    reason: Reason,
    detail: String,
    /// How long the last outage lasted.
    duration: Duration,
    /// The cause as last logged; `None` when the last line said that it is up, and before the first.
    logged: Option<Reason>,
    /// Lines that may be written now.
    tokens: u32,
    refilled: Instant,
    /// Changes that had no line.
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

    /// The last line still holds for a reporter: another cause that some of them see already is no news yet.
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
            // The interval counts from the first line of a burst.
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

    struct Scene {
        state: State,
        now: Instant,
    }

    impl Scene {
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
        let mut scene = Scene::new(2);
        assert_eq!(scene.down(0, Reason::ConnectionLost), Some(Kind::Down));
        assert_eq!(scene.down(1, Reason::ConnectionLost), None);
        scene.pass(3);
        assert_eq!(scene.down(0, Reason::Unreachable), None, "the same cause, seen later");
        assert!(scene.up(0).is_none(), "the other one is still down");
        scene.pass(2);
        let line = scene.up(1).expect("recovered");
        assert_eq!((line.kind, line.duration), (Kind::Up, Duration::from_secs(5)));
        assert!(scene.state.is_settled());
    }

    #[test]
    fn another_cause_is_a_line_of_its_own() {
        let mut scene = Scene::new(1);
        assert_eq!(scene.down(0, Reason::Auth), Some(Kind::Down));
        assert_eq!(scene.down(0, Reason::Permission), Some(Kind::Changed));
        assert_eq!(scene.down(0, Reason::Permission), None);
    }

    #[test]
    fn reporters_that_see_the_next_cause_one_after_the_other_make_one_line_of_it() {
        let mut scene = Scene::new(2);
        assert_eq!(scene.down(0, Reason::ConnectionLost), Some(Kind::Down));
        assert_eq!(scene.down(0, Reason::Auth), Some(Kind::Changed), "nobody sees the first one any more");
        assert_eq!(scene.down(1, Reason::ConnectionLost), None, "the first one still refuses the log-in");
        assert_eq!(scene.down(1, Reason::Auth), None);
        let mut scene = Scene::new(2);
        assert_eq!(scene.down(0, Reason::ConnectionLost), Some(Kind::Down));
        assert_eq!(scene.down(1, Reason::ConnectionLost), None);
        assert_eq!(scene.down(0, Reason::Auth), None, "the other one still sees the first");
        assert_eq!(scene.down(1, Reason::Auth), Some(Kind::Changed));
    }

    #[test]
    fn flapping_is_bounded_and_counted_and_the_last_state_is_logged() {
        let mut scene = Scene::new(1);
        let mut lines = 0;
        for _ in 0..1000 {
            lines += u32::from(scene.down(0, Reason::Timeout).is_some());
            lines += u32::from(scene.up(0).is_some());
        }
        assert_eq!(lines, LINES_BURST);
        assert_eq!(scene.state.suppressed, 1000 - u64::from(LINES_BURST) / 2, "outages without a line");
        assert_eq!(scene.down(0, Reason::Timeout), None);
        scene.pass(LINE_INTERVAL.as_secs());
        assert_eq!(scene.down(0, Reason::Timeout), Some(Kind::Down), "what lasts is logged");
        assert_eq!(scene.state.suppressed, 0);
        assert!(scene.up(0).is_none());
        assert!(!scene.state.is_settled(), "so that the next report may log it");
        scene.pass(LINE_INTERVAL.as_secs());
        let line = scene.up(0).expect("logged late");
        assert_eq!((line.kind, line.duration, line.suppressed), (Kind::Up, LINE_INTERVAL, 1));
    }

    #[test]
    fn a_reporter_that_goes_away_takes_its_report_with_it() {
        let mut scene = Scene::new(2);
        scene.down(0, Reason::Auth);
        scene.down(1, Reason::Auth);
        scene.state.withdraw(0);
        assert!(!scene.state.is_settled());
        scene.state.withdraw(1);
        assert!(scene.state.is_settled());
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
