//! Told to end: each SIGTERM or SIGINT goes one step further.
//!
//! | signal | what it does |
//! |---|---|
//! | first | starts an orderly end: `SHUTDOWN_DELAY`, then a drain of at most `SHUTDOWN_TIMEOUT` |
//! | second | ends the delay and leaves the drain [`HURRIED`] |
//! | third | ends the process at once, with 128 plus its number |
//!
//! A watchdog sees that an orderly end does end, whatever hangs: a core, a thread of librdkafka, the log, the main
//! thread itself. It is a thread of its own from the start, waits by the monotonic clock, and ends the process
//! [`SLACK`] after the time that was allowed.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use shard::abrupt;
use shard::deadline::Deadline;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::flags::FAILED;

/// What is in flight gets this long after a second signal: a round trip to Redis and one to Kafka, many times over.
pub(crate) const HURRIED: Duration = Duration::from_secs(1);
/// What an orderly end may take beyond its time: the last commit and leaving the group (3 s each at most), and the last
/// lines of the log (1 s).
pub(crate) const SLACK: Duration = Duration::from_secs(8);

/// Threads that run until the process ends; everything else that is still there is what the end waits for.
const PERMANENT: [&str; 5] = ["signals", "shutdown-watch", "last-line", "log", "handover"];

/// Why a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A signal, by number.
    Signal(i32),
    /// A successor has taken over the listening sockets.
    HandedOver,
}

/// Signals from the moment this is made: make it before anything is started, so that none is missed.
pub(crate) struct Ending {
    causes: Receiver<Cause>,
    sender: Sender<Cause>,
    steps: Arc<Steps>,
}

/// Whether a tool was asked to stop: the first SIGINT or SIGTERM asks it, the second one ends the process.
pub(crate) struct Interrupt {
    is_set: Arc<AtomicBool>,
    /// The first signal's number.
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Takes over both signals from now on: make it before anything is started, so that none is missed.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub(crate) fn watch() -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let interrupt = Self { is_set: Arc::default(), signal: Arc::default() };
        let (is_set, signal) = (Arc::clone(&interrupt.is_set), Arc::clone(&interrupt.signal));
        thread::spawn(move || {
            let mut signals = signals.forever();
            if let Some(first) = signals.next() {
                signal.store(first, Ordering::Relaxed);
                is_set.store(true, Ordering::Release);
            }
            if let Some(second) = signals.next() {
                std::process::exit(128 + second);
            }
        });
        Ok(interrupt)
    }

    /// True after the first signal.
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// The same for work that looks by itself.
    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.is_set
    }

    /// What shells expect of an interrupted command: 130 after SIGINT, 143 after SIGTERM.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(128_u8.saturating_add(self.signal.load(Ordering::Relaxed) as u8))
    }
}

/// What the signals move, each towards now.
#[derive(Debug, Default)]
struct Steps {
    /// Over after the second signal; after the first one when there is no other reason to end.
    delay: Deadline,
    drain: Deadline,
    watchdog: Deadline,
    is_ending: AtomicBool,
}

impl Ending {
    /// Takes over SIGINT and SIGTERM.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (sender, causes) = channel();
        let steps = Arc::new(Steps::default());
        let watched = Arc::clone(&steps);
        thread::Builder::new().name("shutdown-watch".to_owned()).spawn(move || {
            watched.watchdog.wait();
            let running = abrupt::thread_names(&PERMANENT).join(", ");
            let line = format!("shutdown took longer than it may; ending without waiting for: {running}");
            abrupt::end(&line, i32::from(FAILED));
        })?;
        let (told, moved) = (sender.clone(), Arc::clone(&steps));
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut count = 0;
            for signal in signals.forever() {
                count += 1;
                match count {
                    1 => {
                        // A process that leaves to a successor has begun before.
                        if moved.is_ending.load(Ordering::Acquire) {
                            moved.delay.bring_forward(Duration::ZERO);
                        }
                        // The main thread reads it as soon as it waits for one.
                        let _ = told.send(Cause::Signal(signal));
                    }
                    2 => {
                        moved.delay.bring_forward(Duration::ZERO);
                        moved.drain.bring_forward(HURRIED);
                        moved.watchdog.bring_forward(HURRIED + SLACK);
                    }
                    _ => abrupt::end("third signal: ending at once", 128 + signal),
                }
            }
        })?;
        Ok(Self { causes, sender, steps })
    }

    /// For whoever else may end this process in order.
    pub(crate) fn sender(&self) -> Sender<Cause> {
        self.sender.clone()
    }

    /// Waits for the first cause.
    pub(crate) fn wait(&self) -> Cause {
        // A sender is kept here: there is always one.
        self.causes.recv().unwrap_or(Cause::Signal(SIGTERM))
    }

    /// The same for at most `timeout`.
    pub(crate) fn wait_for(&self, timeout: Duration) -> Option<Cause> {
        self.causes.recv_timeout(timeout).ok()
    }

    /// Begins the end: from now on it may take `delay`, then `drain`, then [`SLACK`].
    pub(crate) fn begin(&self, delay: Duration, drain: Duration) {
        self.steps.is_ending.store(true, Ordering::Release);
        self.steps.delay.bring_forward(delay);
        self.steps.watchdog.bring_forward(delay + drain + SLACK);
    }

    /// True once the delay is over.
    pub(crate) fn is_delay_over(&self) -> bool {
        self.steps.delay.is_over()
    }

    /// Waits for the end of the delay.
    pub(crate) fn wait_delay(&self) {
        self.steps.delay.wait();
    }

    /// Starts the drain and its time.
    pub(crate) fn drain(&self, timeout: Duration) -> &Deadline {
        self.steps.drain.bring_forward(timeout);
        &self.steps.drain
    }
}
