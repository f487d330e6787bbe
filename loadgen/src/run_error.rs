//! Errors that prevent or abort a run.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why there is no report. A run that ends normally has its failures in the report instead.
#[derive(Debug)]
pub enum RunError {
    /// The plan is invalid: one sentence per error.
    Plan(Vec<String>),
    /// The target accepts no connection.
    Unreachable {
        /// Where.
        target: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// The rule file is invalid, or an alert to be ignored is not in it.
    Alerts(String),
    /// The run cannot serve its own metrics at this address.
    Endpoint {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// The audit's store does not respond, or its stock differs from the plan.
    AuditSource(String),
    /// Kafka does not respond, and the plan includes an audit of its topics.
    Topics(String),
    /// A core could not be started, or ended unexpectedly.
    Core(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(errors) => write!(formatter, "the plan cannot be run: {}", errors.join("; ")),
            Self::Unreachable { target, reason } => {
                write!(formatter, "the target {target} cannot be reached: {reason}")
            }
            Self::Alerts(reason) => write!(formatter, "the alert rules cannot be used: {reason}"),
            Self::Endpoint { address, reason } => {
                write!(formatter, "the run's own metrics cannot be served at {address}: {reason}")
            }
            Self::AuditSource(reason) => write!(formatter, "the audit cannot start: {reason}"),
            Self::Topics(reason) => write!(
                formatter,
                "the topics cannot be audited: {reason}; check the address in --kafka, or omit it"
            ),
            Self::Core(reason) => write!(formatter, "a core of the generator failed: {reason}"),
        }
    }
}

impl std::error::Error for RunError {}
