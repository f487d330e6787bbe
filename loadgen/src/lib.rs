//! Load generator: runs a sale against a gateway, judges it by thresholds and has every order audited.
//!
//! Owns: the arrival times ([`schedule`]), the orders ([`workload`]), the buyers' connections, the recording
//! of every response, the samples taken during the run, and the verdict. The crate `audit` owns the audit,
//! `alerts` reads Prometheus rule files, and `report` owns the results.
//!
//! Called by: `flash-sale demo`, `flash-sale loadgen`, perf scenarios and tests, through one function:
//! [`run::run`].
//!
//! Invariants:
//! - open loop: the seed fixes the arrival times before the run; latency counts from the intended time and
//!   includes waiting for a free connection; the generator's own lateness is measured and reported;
//! - every order of the run is a pure function of the seed and its number, so the ledger needs a byte per
//!   order for the responses and two bits for the final status; nothing else in memory grows with the number
//!   of orders;
//! - one request in flight per connection; when a request has no response after `request_timeout`, its
//!   connection is closed;
//! - a check that could not be judged is reported as not judged and never counts as passed.
//!
//! It never changes an order or the stock of a running sale (it may set the stock before the first arrival),
//! never writes to Kafka, and never retries a request unless the plan asks for it.

/// The plan of a run and the allowed ranges.
pub mod plan;

/// Plans read from scenario files.
pub mod scenario;

/// Arrival times.
pub mod schedule;

/// Arrival rate over time.
pub mod curve;

/// Orders and their HTTP requests.
pub mod workload;

/// All requests of a run in sending order.
pub mod sends;

/// One run: stock, load, drain, audit, verdict.
pub mod run;

/// Errors that prevent or abort a run.
mod run_error;

/// The load driver: starts the cores and merges their results.
mod drive;

/// The tasks of one generator core.
mod worker;

/// One generator core: arrivals, connections, measurements.
mod core;

/// States of connections and requests.
mod connection_state;

/// State shared between the cores and the main thread.
mod board;

/// The task of one connection.
mod connection;

/// Waiting for the next arrival.
mod pace;

/// Retries of failed requests.
mod retry;

/// Phases of the plan, each judged separately.
mod phases;

/// Faults injected into the system during the run.
mod faults;

/// Time from the intended arrival of an order to its final status.
mod end_to_end;

/// System calls that std and monoio do not offer.
mod os;

/// Stock samples taken during the run.
mod watch;

/// The target's metrics pages.
mod metrics;

/// Scrapes of the target's metrics during the run.
mod scrape;

/// The load generator's own `/metrics`.
mod endpoint;

/// The checks of a run.
mod verdict;

/// Checks that a single shard cannot judge.
mod withheld;

/// Comparison of the target's counters with the responses.
mod counters;

/// The report, computed from the results of the cores.
mod summary;

/// Merging the reports of several generators.
pub mod merge;

/// Progress display.
pub mod progress;

pub use plan::{Arrivals, Plan, Thresholds};
pub use progress::{Moment, Progress};
pub use run::run;
pub use run_error::RunError;
