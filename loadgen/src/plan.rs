//! The plan of a run: a plain structure that a command line or a scenario file fills in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use audit::{Item, Sale, Stocking, Topics};
use report::Shard;
use report::part::SHARDS_MAX;
use shard::clock;
use wire::order;

use crate::curve::{Curve, Phase, Shape};

/// Distribution of the arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Equal intervals of `1 / rate`.
    Uniform,
    /// Exponential intervals with that mean: independent buyers.
    Poisson,
}

/// Retries: after 503, 500, a timeout or a lost connection, a buyer sends the same order again under the same
/// request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of sends of one order, including the first; 2..=16.
    pub attempts_max: u32,
    /// Wait before the second send; doubles with each further send. Each wait is random, from 0.5 to 1.5 of
    /// this.
    pub back_off: Duration,
}

/// A fault to inject into the system during the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Time since the first arrival.
    pub at: Duration,
    /// Script for `sh -c`.
    pub run: String,
    /// Name in the plots; the command if no name is given.
    pub name: String,
}

/// Limits for the verdict; `None` is not judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// Maximum p99 latency of 202 responses from the intended time, in milliseconds.
    pub p99_ms_max: Option<f64>,
    /// Maximum p99 from the intended time to the final status, of the sampled orders, in milliseconds.
    pub end_to_end_p99_ms_max: Option<f64>,
    /// Alert `HighFailureRate`: `gateway_orders_failed_total / gateway_orders_received_total`. Also limits
    /// the share of failures that the buyers saw (500, 503, other statuses, timeouts, resets, and arrivals
    /// that never got a connection).
    pub failed_share_max: f64,
    /// Alert `ProcessingTimeHigh`: 99th percentile of `processor_order_processing_duration_seconds`.
    pub processing_p99_s_max: Option<f64>,
    /// Alert `DlqSizeHigh`: `processor_dlq_size`. A failed payment causes a dead letter, so a sale with
    /// simulated payment failures does not set this limit.
    pub dlq_size_max: Option<u64>,
    /// Minimum share of the target rate that must actually be offered. Below it, either all connections were
    /// busy, or one of the next two limits is exceeded as well.
    pub offered_share_min: Option<f64>,
    /// Maximum p99 of the generator's own lateness in milliseconds; above it the run is invalid.
    pub lateness_p99_ms_max: Option<f64>,
    /// Maximum busy share of the generator's busiest core; above it the run is invalid.
    pub busy_share_max: Option<f64>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            p99_ms_max: None,
            end_to_end_p99_ms_max: None,
            failed_share_max: 0.1,
            processing_p99_s_max: Some(5.0),
            dlq_size_max: None,
            offered_share_min: Some(0.95),
            lateness_p99_ms_max: Some(100.0),
            busy_share_max: Some(0.95),
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Name of the scenario that was applied.
    pub scenario: Option<String>,
    /// The gateway.
    pub target: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// Prefix of every request id and user id, 1..=24 of `[A-Za-z0-9_]`. Two runs against one store need
    /// different ids.
    pub run_id: String,
    /// Number of orders, each from its own buyer, 1..=10^9, without repeats.
    pub buyers: u64,
    /// Arrivals per second, including repeats, 1..=10^7.
    pub rate_per_s: u64,
    /// Distribution of the arrivals.
    pub arrivals: Arrivals,
    /// Closed loop: no arrival times; a connection sends its next request as soon as it has a response. For
    /// finding the saturation point; the latencies then do not show how long a buyer waits.
    pub closed: bool,
    /// Connections to the target, 1..=60,000; each costs the generator about 17 KiB.
    pub connections: usize,
    /// Cores to use, 1..=connections.
    pub workers: usize,
    /// CPUs to pin the cores to; may be shorter or empty.
    pub cpus: Vec<usize>,
    /// Items on sale, 1..=1,024; the first is the hot item.
    pub items: Vec<Item>,
    /// Whether the run sets the stock or expects it.
    pub stocking: Stocking,
    /// Share of the orders for the first item, 0..=1; the rest is spread evenly over the others.
    pub hot_share: f64,
    /// Share of the orders that are sent twice, 0..=1: half of them immediately (a double click), half about
    /// 100 ms later.
    pub duplicates_share: f64,
    /// Share of the orders whose id is reused with other contents, 0..=1; with `duplicates_share` at most 1.
    pub reused_share: f64,
    /// Share of invalid orders, 0..=1.
    pub invalid_share: f64,
    /// Share of the orders from bots: a few users far over the rate limit, 0..=1.
    pub bots_share: f64,
    /// Number of bots, 1..=10,000.
    pub bots: u32,
    /// Item popularity by Zipf's law with this exponent, instead of one hot item: the n-th item gets 1/n^s as
    /// many orders as the first; 0.1..=5.
    pub zipf_exponent: Option<f64>,
    /// Units of an order are uniform in 1..=`amount_max`; this is 1..=1000.
    pub amount_max: u32,
    /// Rate over time; empty means `rate_per_s` throughout. With phases, `rate_per_s` is their mean, and they
    /// set `buyers`.
    pub phases: Vec<Phase>,
    /// The rates of the phases increase until one fails: report the last one that passed.
    pub finds_knee: bool,
    /// Retries of failed requests.
    pub retries: Option<Retries>,
    /// Responses after which a connection is closed and reopened; `None` keeps it open.
    pub requests_per_connection: Option<u64>,
    /// Faults to inject, ordered by time.
    pub faults: Vec<Fault>,
    /// Random seed for arrival times and orders.
    pub seed: u64,
    /// The share of the orders that this generator sends. Run id, seed and everything that determines orders
    /// and arrivals must be the same in every shard.
    pub shard: Shard,
    /// A response later than this counts as a timeout.
    pub request_timeout: Duration,
    /// How long acknowledged orders may take to reach their final status after the last response.
    pub drain_timeout: Duration,
    /// Read `GET /metrics` of the target before and after the run, and check the counters.
    pub gateway_metrics: bool,
    /// Address of the processor's `/metrics`, to check its counters too.
    pub processor_metrics: Option<SocketAddr>,
    /// The topics, to include them in the audit.
    pub topics: Option<Topics>,
    /// How often these pages are read during the run, 100 ms..=1 min.
    pub scrape_interval: Duration,
    /// Prometheus rule file whose alerts are evaluated on these pages.
    pub alerts: Option<PathBuf>,
    /// Names of alerts that are not judged, for example those that a sale triggers by design.
    pub ignored_alerts: Vec<String>,
    /// Address at which the generator serves its own `/metrics` during the run.
    pub metrics_addr: Option<SocketAddr>,
    /// Limits for the verdict.
    pub thresholds: Thresholds,
}

impl Plan {
    /// The default plan: 100,000 buyers at 5,000 requests per second over 128 connections from one core, for
    /// 2,000 units of item 101.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            scenario: None,
            target,
            host: target.to_string(),
            run_id: fresh_run_id(),
            buyers: 100_000,
            rate_per_s: 5_000,
            arrivals: Arrivals::Uniform,
            closed: false,
            connections: 128,
            workers: 1,
            cpus: Vec::new(),
            items: vec![Item { id: "101".to_owned(), stock: 2_000 }],
            stocking: Stocking::Set,
            hot_share: 1.0,
            duplicates_share: 0.0,
            reused_share: 0.0,
            invalid_share: 0.0,
            bots_share: 0.0,
            bots: 10,
            zipf_exponent: None,
            amount_max: 1,
            phases: Vec::new(),
            finds_knee: false,
            retries: None,
            requests_per_connection: None,
            faults: Vec::new(),
            seed: 1,
            shard: Shard::WHOLE,
            request_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_mins(1),
            gateway_metrics: true,
            processor_metrics: None,
            topics: None,
            scrape_interval: Duration::from_millis(500),
            alerts: None,
            ignored_alerts: Vec::new(),
            metrics_addr: None,
            thresholds: Thresholds::default(),
        }
    }

    /// The part of the plan that the audit needs.
    pub fn sale(&self) -> Sale {
        Sale {
            target: self.target,
            host: self.host.clone(),
            run_id: self.run_id.clone(),
            buyers: self.buyers,
            items: self.items.clone(),
            stocking: self.stocking,
            shard: self.shard,
            drain_timeout: self.drain_timeout,
        }
    }

    /// Mean target rate of all shards together, in requests per second.
    pub fn asked_rate(&self) -> f64 {
        let curve = Curve::new(&self.phases);
        let seconds = curve.duration().as_secs_f64();
        if seconds > 0.0 { curve.arrivals() as f64 / seconds } else { self.rate_per_s as f64 }
    }

    /// Target rate of this generator, in requests per second.
    pub fn own_rate(&self) -> f64 {
        self.asked_rate() / self.shard.count as f64
    }

    /// Everything that is invalid, one line each; empty if the plan can be run.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut range = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                errors.push(format!("{name} is {value}, must be {least} to {most}"));
            }
        };
        range("buyers", self.buyers, 1, BUYERS_MAX);
        range("rate_per_s", self.rate_per_s, 1, 10_000_000);
        range("connections", self.connections as u64, 1, 60_000);
        range("shards", self.shard.count, 1, SHARDS_MAX);
        range("shard", self.shard.index, 0, self.shard.count.saturating_sub(1));
        range("workers", self.workers as u64, 1, self.connections.max(1) as u64);
        range("items", self.items.len() as u64, 1, ITEMS_MAX as u64);
        range("amount_max", u64::from(self.amount_max), 1, u64::from(order::AMOUNT_MAX));
        range("request_timeout in milliseconds", self.request_timeout.as_millis() as u64, 1, 120_000);
        range("scrape_interval in milliseconds", self.scrape_interval.as_millis() as u64, 100, 60_000);
        range("drain_timeout in milliseconds", self.drain_timeout.as_millis() as u64, 0, 86_400_000);
        for item in &self.items {
            range(&format!("stock of item {}", item.id), item.stock, 0, 1_000_000_000_000);
        }
        range("bots", u64::from(self.bots), 1, 10_000);
        if let Some(retries) = self.retries {
            range("attempts_max of retries", u64::from(retries.attempts_max), 2, 16);
            range("back_off of retries in milliseconds", retries.back_off.as_millis() as u64, 1, 600_000);
        }
        if let Some(requests) = self.requests_per_connection {
            range("requests_per_connection", requests, 1, u64::MAX);
        }
        range("phases", self.phases.len() as u64, 0, PHASES_MAX as u64);
        for (name, share) in [
            ("hot_share", self.hot_share),
            ("duplicates_share", self.duplicates_share),
            ("reused_share", self.reused_share),
            ("duplicates_share + reused_share", self.duplicates_share + self.reused_share),
            ("invalid_share", self.invalid_share),
            ("bots_share", self.bots_share),
            ("invalid_share + bots_share", self.invalid_share + self.bots_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                errors.push(format!("{name} is {share}, must be 0 to 1"));
            }
        }
        if let Some(exponent) = self.zipf_exponent.filter(|exponent| !(0.1..=5.0).contains(exponent)) {
            errors.push(format!("zipf_exponent is {exponent}, must be 0.1 to 5"));
        }
        for phase in &self.phases {
            errors.extend(phase_errors(phase));
        }
        let run_id_is_legal = (1..=RUN_ID_CHARS_MAX).contains(&self.run_id.len())
            && self.run_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !run_id_is_legal {
            errors.push(format!(
                "run_id is {:?}, must be 1 to {RUN_ID_CHARS_MAX} of A-Z a-z 0-9 _",
                self.run_id
            ));
        }
        if self.host.is_empty() || self.host.len() > 255 || !self.host.bytes().all(|b| b.is_ascii_graphic()) {
            errors.push(format!("host is {:?}, must be 1 to 255 visible ASCII characters", self.host));
        }
        for (index, item) in self.items.iter().enumerate() {
            if let Err(reason) = order::check_id(&item.id) {
                errors.push(format!("item {:?} {reason}", item.id));
            }
            if self.items[..index].iter().any(|other| other.id == item.id) {
                errors.push(format!("item {:?} is given twice", item.id));
            }
        }
        errors
    }
}

fn phase_errors(phase: &Phase) -> Vec<String> {
    let mut errors = Vec::new();
    let rates = match phase.shape {
        Shape::Ramp { from_per_s, to_per_s } => [from_per_s, to_per_s],
        Shape::Decay { from_per_s, half_life } => {
            if half_life.is_zero() {
                errors.push(format!("phase {:?}: half_life must be longer than zero", phase.name));
            }
            [from_per_s, from_per_s]
        }
    };
    if phase.duration.is_zero() {
        errors.push(format!("phase {:?}: duration must be longer than zero", phase.name));
    }
    if rates.iter().any(|rate| !(0.0..=1e7).contains(rate)) || rates == [0.0, 0.0] {
        errors.push(format!("phase {:?}: rates must be 0 to 10000000 and not both 0", phase.name));
    }
    errors
}

/// Maximum number of phases; each costs 2 KB per core.
pub const PHASES_MAX: usize = 256;
/// Maximum number of orders: 10 bits each, 1.25 GB, and 2 more bits with an audit of the topics.
pub const BUYERS_MAX: u64 = 1_000_000_000;
/// Maximum number of items: the store reads this many in one command.
pub const ITEMS_MAX: usize = 1_024;
/// Maximum length of the run id: with `-`, `u` and the 6 digits of the order number it stays far below the
/// 100 characters of a user id.
pub const RUN_ID_CHARS_MAX: usize = 24;

/// A new run id, unique on this machine: the time in milliseconds, in base 36.
pub fn fresh_run_id() -> String {
    let mut digits = Vec::new();
    let mut rest = clock::unix_ms();
    while rest > 0 {
        digits.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]));
        rest /= 36;
    }
    digits.iter().rev().collect()
}
