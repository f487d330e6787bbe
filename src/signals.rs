//! Shutdown by signals: each further SIGTERM or SIGINT shortens the shutdown.
//!
//! | signal | effect |
//! |---|---|
//! | first | starts an orderly shutdown: `SHUTDOWN_DELAY`, then a drain of at most `SHUTDOWN_TIMEOUT` |
//! | second | ends the delay and limits the drain to `DRAIN_AFTER_SECOND_SIGNAL` |
//! | third | exits at once, with code 128 plus the signal number |
//!
//! A watchdog makes sure that the shutdown ends whatever hangs: a core, a librdkafka thread, the log or the main thread.
//! It has its own thread from the start, waits by the monotonic clock, and ends the process `SLACK` after the allowed
//! time.

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

/// Drain time left after a second signal: many times a round trip to Redis and one to Kafka.
pub(crate) const DRAIN_AFTER_SECOND_SIGNAL: Duration = Duration::from_secs(1);
/// How long an orderly shutdown may take beyond delay and drain: the final commit and leaving the consumer group (at most 3 s
/// each), and the last log lines (1 s).
pub(crate) const SLACK: Duration = Duration::from_secs(8);

/// Threads that run until the process exits. Shutdown waits for all others; the watchdog's message names those still running.
const PERMANENT: [&str; 5] = ["signals", "shutdown-watch", "last-line", "log", "handover"];

/// Why the process shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A signal, by number.
    Signal(i32),
    /// A successor has taken over the listening sockets.
    HandedOver,
}

/// Shutdown signals and deadlines. Create it before anything is started, so that no signal is missed.
pub(crate) struct Shutdown {
    causes: Receiver<Cause>,
    sender: Sender<Cause>,
    deadlines: Arc<Deadlines>,
}

/// Interruption of a command-line tool: the first SIGINT or SIGTERM requests a stop, the second exits the process.
pub(crate) struct Interrupt {
    is_set: Arc<AtomicBool>,
    /// Number of the first signal.
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Installs the signal handlers. Call it before anything is started, so that no signal is missed.
    ///
    /// # Errors
    /// When a signal handler cannot be installed.
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

    /// The same as a flag, for code that polls it.
    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.is_set
    }

    /// The exit code that shells expect of an interrupted command: 130 after SIGINT, 143 after SIGTERM.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(128_u8.saturating_add(self.signal.load(Ordering::Relaxed) as u8))
    }
}

/// The deadlines that signals bring forward.
#[derive(Debug, Default)]
struct Deadlines {
    /// Over after the second signal, or after the first one if a shutdown had already begun (hand-over).
    delay: Deadline,
    drain: Deadline,
    watchdog: Deadline,
    is_shutting_down: AtomicBool,
}

impl Shutdown {
    /// Takes over SIGINT and SIGTERM.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (sender, causes) = channel();
        let deadlines = Arc::new(Deadlines::default());
        let watched = Arc::clone(&deadlines);
        thread::Builder::new().name("shutdown-watch".to_owned()).spawn(move || {
            watched.watchdog.wait();
            let running = abrupt::thread_names(&PERMANENT).join(", ");
            let line = format!("shutdown exceeded its time limit; exiting without waiting for: {running}");
            abrupt::end(&line, i32::from(FAILED));
        })?;
        let (causes_sender, moved) = (sender.clone(), Arc::clone(&deadlines));
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut count = 0;
            for signal in signals.forever() {
                count += 1;
                match count {
                    1 => {
                        // A process that has handed over to a successor is already shutting down.
                        if moved.is_shutting_down.load(Ordering::Acquire) {
                            moved.delay.bring_forward(Duration::ZERO);
                        }
                        // The main thread receives it when it next waits for a cause.
                        let _ = causes_sender.send(Cause::Signal(signal));
                    }
                    2 => {
                        moved.delay.bring_forward(Duration::ZERO);
                        moved.drain.bring_forward(DRAIN_AFTER_SECOND_SIGNAL);
                        moved.watchdog.bring_forward(DRAIN_AFTER_SECOND_SIGNAL + SLACK);
                    }
                    _ => abrupt::end("third signal: exiting at once", 128 + signal),
                }
            }
        })?;
        Ok(Self { causes, sender, deadlines })
    }

    /// Sender for other causes of an orderly shutdown.
    pub(crate) fn sender(&self) -> Sender<Cause> {
        self.sender.clone()
    }

    /// Waits for the first cause.
    pub(crate) fn wait(&self) -> Cause {
        // Cannot fail: `self` holds a sender.
        self.causes.recv().unwrap_or(Cause::Signal(SIGTERM))
    }

    /// Waits for the first cause, for at most `timeout`.
    pub(crate) fn wait_for(&self, timeout: Duration) -> Option<Cause> {
        self.causes.recv_timeout(timeout).ok()
    }

    /// Begins the shutdown: from now on it may take `delay`, then `drain`, then `SLACK`.
    pub(crate) fn begin(&self, delay: Duration, drain: Duration) {
        self.deadlines.is_shutting_down.store(true, Ordering::Release);
        self.deadlines.delay.bring_forward(delay);
        self.deadlines.watchdog.bring_forward(delay + drain + SLACK);
    }

    /// True once the delay is over.
    pub(crate) fn is_delay_over(&self) -> bool {
        self.deadlines.delay.is_over()
    }

    /// Waits for the end of the delay.
    pub(crate) fn wait_delay(&self) {
        self.deadlines.delay.wait();
    }

    /// Starts the drain and returns its deadline.
    pub(crate) fn drain(&self, timeout: Duration) -> &Deadline {
        self.deadlines.drain.bring_forward(timeout);
        &self.deadlines.drain
    }
}
