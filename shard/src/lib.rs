//! The building blocks of a core (event loop, mailboxes, metric cells, log) and the few things that cores share.
//!
//! Owns: the runtime of a core ([`launch`]), the mailbox into a core ([`mailbox`]), the table of orders that wait for a
//! reply ([`waiters`]), the phases of a shutdown ([`drain`]), the metric cells ([`cells`]), the log buffer ([`log`]), the
//! state of dependencies ([`dependency`]) and the wall clock as text ([`clock`]).
//!
//! Called by: gateway, processor, loadgen and the drivers in store and queue.
//!
//! Invariants: nothing in this crate blocks a core; everything that grows has a bound set by its owner; only
//! [`mailbox::Mailbox`], [`drain::Drain`], [`log::Sink`], [`dependency::Monitor`] and [`cells`] are shared between threads.
//!
//! It never parses an order and never talks to Redis or Kafka.

/// Joins many futures of one core in one task.
pub mod join;

/// The allowed CPUs, and one runtime per core: `io_uring` where the kernel allows it, otherwise epoll.
pub mod launch;

/// The scheduling policy `SCHED_BATCH`, under which threads process more per wake-up.
pub mod batch_scheduling;

/// Passes items from other threads to a core, with one wake-up per burst.
pub mod mailbox;

/// The mutex of [`mailbox`]. `tests/mailbox_interleavings.rs` compiles the same source with loom's mutex under
/// this name.
mod sync {
    pub(crate) use parking_lot::Mutex;
}

/// Futures that wait for a reply which another task of the same core receives.
pub mod waiters;

/// Counters and histograms of one core, written without contention and summed at each scrape.
pub mod cells;

/// JSON log lines through a bounded buffer, written outside the request path.
pub mod log;

/// The dependencies, and the reasons why they fail.
mod reason;

/// Tracks, logs and counts whether Redis and Kafka are available, and why not.
pub mod dependency;

/// Checks that Redis and Kafka are configured as a sale requires.
pub mod checks;

/// Wall-clock time as text: RFC 3339 for logs, IMF-fixdate for HTTP.
pub mod clock;

/// The phases of a shutdown, shared by every core of a process.
pub mod drain;

/// A deadline that can be brought forward.
pub mod deadline;

/// Detects a blocked event loop while it is blocked.
pub mod watchdog;

/// Immediate exit of a process that cannot shut down in order.
pub mod abrupt;
