//! What is to be done: a plain structure that a command line or a scenario file fills in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shard::clock;
use wire::order;

use crate::curve::{Curve, Phase, Shape};
use crate::evidence::Topics;
use crate::part::{SHARDS_MAX, Shard};
use crate::workload::Workload;

/// How arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Equal distances of `1 / rate`.
    Uniform,
    /// Exponential distances with that mean: independent buyers.
    Poisson,
}

/// One thing on sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As the contract allows item ids.
    pub id: String,
    /// Units on sale, 0..=10^12.
    pub stock: u64,
}

/// Who puts the stock into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stocking {
    /// The run sets it before the first arrival.
    Set,
    /// It is there already; a run that finds another number does not start.
    Expect,
}

/// What a buyer does who got 503, 500, no answer in time, or whose connection broke: the same order again, under
/// the same request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Sends of one order at most, the first included; 2..=16.
    pub attempts_max: u32,
    /// Wait before the second; doubles with each, and each is spread over half to one and a half of it.
    pub back_off: Duration,
}

/// Something done to the system during the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When, from the first arrival on.
    pub at: Duration,
    /// For `sh -c`.
    pub run: String,
    /// What it is, for the plots; the command when not given.
    pub name: String,
}

/// Limits that the verdict judges; `None` is not judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// 99th percentile of the 202 answers, from the intended time, milliseconds.
    pub p99_ms_max: Option<f64>,
    /// 99th percentile from the intended time to the end of an order, of the orders that are followed, milliseconds.
    pub end_to_end_p99_ms_max: Option<f64>,
    /// Runbook, critical alert 4: `gateway_orders_failed_total / gateway_orders_received_total`, and the same
    /// share as the buyers saw it (500, 503, other, time-outs, resets and arrivals that never got a
    /// connection).
    pub failed_share_max: f64,
    /// Runbook, critical alert 5: 99th percentile of `processor_order_processing_duration_seconds`.
    pub processing_p99_s_max: Option<f64>,
    /// Runbook, critical alert 2: `processor_dlq_size`. Its own text expects payment time-outs there, so a
    /// sale with simulated payment failures leaves it out.
    pub dlq_size_max: Option<u64>,
    /// Least share of the asked rate that must really have been offered. Less means that the target held all
    /// the connections, or else that one of the next two is broken as well.
    pub offered_share_min: Option<f64>,
    /// 99th percentile of the generator's own lateness in milliseconds, else the run is invalid.
    pub lateness_p99_ms_max: Option<f64>,
    /// Share of the run that the generator's busiest core may have been busy, else the run is invalid.
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
    /// The scenario it was made from.
    pub scenario: Option<String>,
    /// The gateway.
    pub target: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// First part of every request id and user id, 1..=24 of `[A-Za-z0-9_]`. Two runs against one store must
    /// differ.
    pub run_id: String,
    /// Orders, each of its own buyer, 1..=10^9. Repeats come on top.
    pub buyers: u64,
    /// Requests that arrive per second, repeats included, 1..=10^7.
    pub rate_per_s: u64,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// Closed loop: no arrival times, a connection asks again as soon as it is answered. For finding the
    /// knee; the latencies then say nothing about a buyer's wait.
    pub closed: bool,
    /// Sockets to the target, 1..=60,000; each costs about 17 KiB here.
    pub connections: usize,
    /// Cores to use, 1..=connections.
    pub workers: usize,
    /// Processors to bind them to; may be shorter or empty.
    pub cpus: Vec<usize>,
    /// What is on sale, 1..=1,024 of it; the first is the hot one.
    pub items: Vec<Item>,
    /// Who stocks the store.
    pub stocking: Stocking,
    /// Share of the orders that want the first item, 0..=1; the others share the rest evenly.
    pub hot_share: f64,
    /// Share of the orders that are sent twice, 0..=1: half of them at once (a double click), half about 100
    /// ms later.
    pub duplicates_share: f64,
    /// Share of the orders whose id is used again with other contents, 0..=1; with `duplicates_share` at most 1.
    pub reused_share: f64,
    /// Share of the orders that break a rule of the contract, 0..=1.
    pub invalid_share: f64,
    /// Share of the orders that come from bots, a few users far over the limit, 0..=1.
    pub bots_share: f64,
    /// How many bots there are, 1..=10,000.
    pub bots: u32,
    /// Items by Zipf's law with this exponent instead of one hot item: the n-th is wanted 1/n^s as often as the
    /// first; 0.1..=5.
    pub zipf_exponent: Option<f64>,
    /// Units of an order: 1..=`amount_max`, evenly; itself 1..=1000.
    pub amount_max: u32,
    /// How the rate moves; empty is `rate_per_s` throughout. Then `rate_per_s` is the mean and `buyers` follows.
    pub phases: Vec<Phase>,
    /// The rates of the phases rise until one is too much: report the last that held.
    pub finds_knee: bool,
    /// Whether who was refused by trouble comes again.
    pub retries: Option<Retries>,
    /// Answers after which a connection is closed and made anew; `None` keeps it.
    pub requests_per_connection: Option<u64>,
    /// What is done to the system, in the order of time.
    pub faults: Vec<Fault>,
    /// Fixes arrival times and orders.
    pub seed: u64,
    /// Which of the orders this generator sends; run id, seed and all that shapes orders and arrivals must be
    /// the same in every shard.
    pub shard: Shard,
    /// An answer later than this is none.
    pub request_timeout: Duration,
    /// How long acknowledged orders may take to end after the last answer.
    pub drain_timeout: Duration,
    /// Read `GET /metrics` of the target before and after, and check the counters.
    pub gateway_metrics: bool,
    /// Where the processor serves `/metrics`, when its counters are to be checked too.
    pub processor_metrics: Option<SocketAddr>,
    /// The topics, when the audit is to read them too.
    pub topics: Option<Topics>,
    /// How often these pages are read while the run lasts, 100 ms..=1 min.
    pub scrape_interval: Duration,
    /// Rule file of Prometheus whose alerts are judged on these pages.
    pub alerts: Option<PathBuf>,
    /// Names of alerts that are not judged, such as those that a sale brings about by design.
    pub ignored_alerts: Vec<String>,
    /// Where the run serves its own `/metrics` while it lasts.
    pub metrics_addr: Option<SocketAddr>,
    /// What must hold.
    pub thresholds: Thresholds,
}

impl Plan {
    /// A run with the defaults: 100,000 buyers at 5,000 requests a second over 128 connections from one core,
    /// who want 2,000 units of item 101.
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

    /// Takes phases: `rate_per_s` becomes their mean (rounded), and `buyers` as many orders as fit in beside their
    /// repeats.
    pub fn set_phases(&mut self, phases: Vec<Phase>) {
        let curve = Curve::new(&phases);
        let seconds = curve.duration().as_secs_f64();
        self.phases = phases;
        self.rate_per_s = if seconds > 0.0 { (curve.arrivals() as f64 / seconds).round() as u64 } else { 0 };
        self.buyers = Workload::new(self).buyers_for(curve.arrivals());
    }

    /// Requests a second that are asked for, on average, by all shards together.
    pub fn asked_rate(&self) -> f64 {
        let curve = Curve::new(&self.phases);
        let seconds = curve.duration().as_secs_f64();
        if seconds > 0.0 { curve.arrivals() as f64 / seconds } else { self.rate_per_s as f64 }
    }

    /// Requests a second that this generator is to send: its share of them.
    pub fn own_rate(&self) -> f64 {
        self.asked_rate() / self.shard.count as f64
    }

    /// Everything that is wrong with it, one line each; empty when it can be run.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut range = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(format!("{name} is {value}, must be {least} to {most}"));
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
                faults.push(format!("{name} is {share}, must be 0 to 1"));
            }
        }
        if let Some(exponent) = self.zipf_exponent.filter(|exponent| !(0.1..=5.0).contains(exponent)) {
            faults.push(format!("zipf_exponent is {exponent}, must be 0.1 to 5"));
        }
        for phase in &self.phases {
            faults.extend(phase_faults(phase));
        }
        let run_id_is_legal = (1..=RUN_ID_CHARS_MAX).contains(&self.run_id.len())
            && self.run_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !run_id_is_legal {
            faults.push(format!(
                "run_id is {:?}, must be 1 to {RUN_ID_CHARS_MAX} of A-Z a-z 0-9 _",
                self.run_id
            ));
        }
        if self.host.is_empty() || self.host.len() > 255 || !self.host.bytes().all(|b| b.is_ascii_graphic()) {
            faults.push(format!("host is {:?}, must be 1 to 255 visible ASCII characters", self.host));
        }
        for (index, item) in self.items.iter().enumerate() {
            if let Err(reason) = order::check_id(&item.id) {
                faults.push(format!("item {:?} {reason}", item.id));
            }
            if self.items[..index].iter().any(|other| other.id == item.id) {
                faults.push(format!("item {:?} is given twice", item.id));
            }
        }
        faults
    }
}

fn phase_faults(phase: &Phase) -> Vec<String> {
    let mut faults = Vec::new();
    let rates = match phase.shape {
        Shape::Ramp { from_per_s, to_per_s } => [from_per_s, to_per_s],
        Shape::Decay { from_per_s, half_life } => {
            if half_life.is_zero() {
                faults.push(format!("phase {:?}: half_life must be longer than zero", phase.name));
            }
            [from_per_s, from_per_s]
        }
    };
    if phase.duration.is_zero() {
        faults.push(format!("phase {:?}: duration must be longer than zero", phase.name));
    }
    if rates.iter().any(|rate| !(0.0..=1e7).contains(rate)) || rates == [0.0, 0.0] {
        faults.push(format!("phase {:?}: rates must be 0 to 10000000 and not both 0", phase.name));
    }
    faults
}

/// Most phases of a run; the notes of each cost 2 KB a core.
pub const PHASES_MAX: usize = 256;
/// Most orders of a run: 6 bits each, 750 MB.
pub const BUYERS_MAX: u64 = 1_000_000_000;
/// Most items of a run: what the store answers in one command.
pub const ITEMS_MAX: usize = 1_024;
/// Longest run id: with `-`, `u` and 6 digits of the order it stays far inside the 100 characters of a user
/// id.
pub const RUN_ID_CHARS_MAX: usize = 24;

/// A run id that no earlier run on this machine had: the time in milliseconds, in base 36.
pub fn fresh_run_id() -> String {
    let mut digits = Vec::new();
    let mut rest = clock::unix_ms();
    while rest > 0 {
        digits.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]));
        rest /= 36;
    }
    digits.iter().rev().collect()
}
