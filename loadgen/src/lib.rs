//! Load generator: runs a sale against a gateway, judges it by thresholds and audits every order.
//!
//! Owns: the arrival times ([`schedule`]), what is asked for ([`workload`]), the buyers' connections, the
//! notes taken of every answer ([`outcome`], [`series`]), the ledger of every request id ([`ledger`]), the
//! audit against the store and the verdict ([`report`]).
//!
//! Called by: `flash-sale demo`, `flash-sale loadgen`, perf scenarios and tests, by one function:
//! [`run::run`].
//!
//! Invariants:
//! - open loop: arrival times are fixed before the run by the seed; latency counts from the intended time,
//!   waiting for a free connection included, and the generator's own lateness is measured and reported;
//! - every order of the run is a pure function of the seed and its number, so the ledger needs four bits an
//!   order for the answers and two for the ends, and nothing else in memory grows with the number of orders;
//! - one request in flight a connection; a request without an answer after `request_timeout` is ended by
//!   closing it;
//! - a check that could not be judged says so; it never counts as held.
//!
//! It never changes an order or the stock of a running sale (it may set the stock before the first arrival),
//! never writes to Kafka, and never retries a request on its own.

/// What is to be done, with ranges.
pub mod plan;

/// A plan as a file.
pub mod scenario;

/// Which part of it this generator sends.
pub mod part;

/// When buyers arrive.
pub mod schedule;

/// How the rate moves.
pub mod curve;

/// What each of them asks for, and the bytes of it.
pub mod workload;

/// All requests of a run, in order.
pub mod sends;

/// The road: stock up, fire, drain, audit, verdict.
pub mod run;

mod fire;

mod worker;

mod pace;

/// Who comes again.
mod retry;

/// Phases, judged one by one.
mod phases;

/// Things done to the system during the run.
mod faults;

/// How long until the end of an order.
mod end_to_end;

mod os;

mod connection;

/// Answers of the target, read from bytes.
pub mod answer;

/// What can become of a request.
pub mod outcome;

/// The notes of one core.
pub mod record;

/// Latencies and counts over time, bounded.
pub mod series;

/// What was answered to each request id, in four bits.
pub mod ledger;

mod watch;

/// Where the audit reads the truth.
pub mod truth;

/// The audit of whatever lies in the topics, whoever sent it.
pub mod topics;

mod http_orders;

mod drain;

/// What lies in the topics about the orders of this run.
pub mod evidence;

mod audit;

mod metrics;

/// Alerts of a Prometheus rule file, judged on the target's own metrics.
pub mod alerts;

mod scrape;

mod endpoint;

mod verdict;

/// The target's own counters beside what was seen of it.
pub mod counters;

mod summary;

/// What was measured, in a form that adds without loss.
pub mod measured;

mod markup;

/// What came out, as data and as JSON.
pub mod report;

mod word;

/// Reports read back.
pub mod read;

/// Reports of several generators, as one.
pub mod merge;

/// Two reports side by side.
pub mod compare;

/// Reports as files.
pub mod output;

mod table;

mod html;

/// What the run shows while it lasts.
pub mod progress;

pub use evidence::Topics;
pub use part::Shard;
pub use plan::{Arrivals, Item, Plan, Stocking, Thresholds};
pub use progress::{Moment, Progress};
pub use report::{Report, Verdict};
pub use run::{RunError, run};
pub use truth::AuditSource;
