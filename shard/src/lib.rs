//! What one core owns (event loop, mailboxes, metric cells, log), and the little that cores share.
//!
//! Owned here: the runtime of a core ([`launch`]), the mailbox into a core ([`mailbox`]), the table of orders that
//! wait for an answer ([`waiters`]), the phases of a shutdown ([`drain`]), the metric cells ([`cells`]), the log
//! buffer ([`log`]), the state of dependencies ([`dependency`]) and the wall clock in text ([`clock`]).
//!
//! Called by: gateway, processor, loadgen and the drivers in store and queue.
//!
//! Invariants: nothing in this crate blocks a core; everything that grows has a bound given by its owner; only
//! [`mailbox::Mailbox`], [`drain::Drain`], [`log::Sink`], [`dependency::Monitor`] and [`cells`] are shared between threads.
//!
//! It never parses an order and never talks to Redis or Kafka.

/// Many futures of one core, polled by one task.
pub mod join;

/// Which cores we may use, and one runtime on each of them: `io_uring` where the kernel allows it, else epoll.
pub mod launch;

/// Fuller turns for threads that work off what has gathered.
pub mod turns;

/// Letters from other threads into a core, with one wake a burst.
pub mod mailbox;

/// What [`mailbox`] shares between threads. `tests/mailbox_interleavings.rs` compiles the same source with loom's mutex under
/// this name.
mod sync {
    pub(crate) use parking_lot::Mutex;
}

/// Futures of one core that wait for an answer which arrives elsewhere on the same core.
pub mod waiters;

/// Counters and histograms of one core, written without contention and summed at scrape.
pub mod cells;

/// JSON log lines through a bounded buffer, written off the road.
pub mod log;

/// Whether Redis and Kafka are available, why not, and the log lines and counters of it.
pub mod dependency;

/// Whether Redis and Kafka are configured as a sale needs it.
pub mod checks;

/// Wall-clock time as text: RFC 3339 for logs, IMF-fixdate for HTTP.
pub mod clock;

/// The phases of a shutdown, shared by every core of a process.
pub mod drain;

/// A deadline that can be brought forward.
pub mod deadline;

/// Sees a blocked event loop while it is blocked.
pub mod watchdog;

/// The end of a process that cannot end in order.
pub mod abrupt;
