//! The target's own counters before and after a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The service that a metrics page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The gateway.
    Gateway,
    /// The processor.
    Processor,
}

/// Counters of one metrics page before and after the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// The service.
    pub service: Service,
    /// Address of the page.
    pub address: String,
    /// Time of the reading before the first arrival, in milliseconds since 1970.
    pub before_unix_ms: u64,
    /// Time of the reading after the audit.
    pub after_unix_ms: u64,
    /// Values by metric name; metrics missing on the page are omitted.
    pub before: BTreeMap<String, f64>,
    /// Likewise.
    pub after: BTreeMap<String, f64>,
}
