//! The road: plan, fire, drain, audit, verdict.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use shard::{clock, launch};

use crate::alerts::Rules;
use crate::audit::{self, Audited};
use crate::counters::{Counted, Service};
use crate::drain::AuditContext;
use crate::end_to_end::Follower;
use crate::endpoint::{Endpoint, RunCells};
use crate::evidence::Beginning;
use crate::fire::{self, Beside, Fired, is_interrupted};
use crate::metrics::MetricsPage;
use crate::part;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::{LedgerReport, Report, Verdict};
use crate::scrape::Scrape;
use crate::summary::Summary;
use crate::truth::{AuditSource, Reader, Stocked};
use crate::verdict::{self, Evidence};
use crate::watch::Watch;
use crate::workload::Workload;

/// Why a run could not be run. What could be run is judged by the report instead.
#[derive(Debug)]
pub enum RunError {
    /// The plan is out of range: every fault.
    Plan(Vec<String>),
    /// Nothing accepts connections there.
    Unreachable {
        /// Where.
        target: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// The alerts cannot be judged: the rule file is wrong, or one that is to be ignored is not in it.
    Alerts(String),
    /// The run cannot serve its own metrics there.
    Endpoint {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// The store of the audit does not answer, or holds another stock than the plan expects.
    Truth(String),
    /// Kafka does not answer, though its topics were to be audited.
    Topics(String),
    /// A core could not be started or ended by itself.
    Core(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(faults) => write!(formatter, "the plan cannot be run: {}", faults.join("; ")),
            Self::Unreachable { target, reason } => {
                write!(formatter, "the target {target} cannot be reached: {reason}")
            }
            Self::Alerts(reason) => write!(formatter, "the alerts cannot be judged: {reason}"),
            Self::Endpoint { address, reason } => {
                write!(formatter, "the run's own metrics cannot be served at {address}: {reason}")
            }
            Self::Truth(reason) => write!(formatter, "the audit cannot begin: {reason}"),
            Self::Topics(reason) => write!(
                formatter,
                "the topics cannot be audited: {reason}; give --kafka an address that answers, or leave it out"
            ),
            Self::Core(reason) => write!(formatter, "a core of the generator failed: {reason}"),
        }
    }
}

impl std::error::Error for RunError {}

/// How long the first connection may take.
const REACH_WAIT_MAX: Duration = Duration::from_secs(5);

/// Runs a plan to its verdict. Blocks; call it from a thread that is no core. `interrupt` ends it early: what
/// was measured so far is reported, nothing is judged.
///
/// # Errors
/// [`RunError`] when it could not be run at all.
pub fn run(
    plan: &Plan,
    audit: &AuditSource,
    mut progress: impl Progress,
    interrupt: &Arc<AtomicBool>,
) -> Result<Report, RunError> {
    let faults = plan.faults();
    if !faults.is_empty() {
        return Err(RunError::Plan(faults));
    }
    let rules = rules(plan)?;
    let cells = plan.metrics_addr.map(|_| Arc::new(RunCells::new(plan)));
    let endpoint = match (plan.metrics_addr, &cells) {
        (Some(address), Some(cells)) => Some(
            Endpoint::begin(address, Arc::clone(cells))
                .map_err(|reason| RunError::Endpoint { address, reason })?,
        ),
        _ => None,
    };
    TcpStream::connect_timeout(&plan.target, REACH_WAIT_MAX)
        .map_err(|reason| RunError::Unreachable { target: plan.target, reason })?;
    let workload = Arc::new(Workload::new(plan));
    let requests = workload.requests();
    let stocked = stock_up(plan, audit)?;
    let beginning = plan.topics.as_ref().map(Beginning::note).transpose().map_err(RunError::Topics)?;
    let before_unix_ms = clock::unix_ms();
    let gateway = plan.gateway_metrics.then(|| MetricsPage::read(plan.target, &plan.host));
    let processor = plan.processor_metrics.map(|address| (address, read_processor(address)));

    let watch = Watch::begin(audit, plan).map_err(RunError::Core)?;
    let follower = Follower::begin(audit, plan, &workload).map_err(RunError::Core)?;
    let scrape = Scrape::begin(plan, rules.as_ref()).map_err(RunError::Core)?;
    let beside = Beside { watch: &watch, follower: &follower, cells };
    let mut fired = fire::fire(plan, &workload, requests, interrupt, &beside, &mut progress)?;
    let audited = if is_interrupted(interrupt) {
        None
    } else {
        let known = Known { stocked: stocked.as_ref(), beginning: beginning.as_ref() };
        inquire(plan, audit, &workload, &fired, known, interrupt, &watch, &mut progress)?
    };
    let seen = watch.end();
    let ends = follower.end();
    if let Some(ends) = &ends {
        fired.record.end_to_end = ends.histogram.clone();
    }
    let scraped = scrape.end().map_err(RunError::Core)?;
    progress.done();
    drop(endpoint);

    let gateway = gateway.map(|before| pages(before, || MetricsPage::read(plan.target, &plan.host)));
    let processor = processor.map(|(address, before)| pages(before, || read_processor(address)));
    let unix_ms = (before_unix_ms, clock::unix_ms());
    let read = [
        (Service::Gateway, Some(plan.target), &gateway),
        (Service::Processor, plan.processor_metrics, &processor),
    ];
    let counted = |(service, address, pages): (Service, Option<SocketAddr>, &Option<verdict::Pages>)| {
        let pages = pages.as_ref()?.as_ref().ok()?;
        Some(Counted::of(service, address?.to_string(), unix_ms, pages))
    };
    let counted: Vec<Counted> = read.into_iter().filter_map(counted).collect();
    let (ends, scraped, seen) = (ends.as_ref(), &scraped, &seen);
    let summary = Summary { plan, requests, fired: &fired, seen, ends, scraped, counted: &counted };
    if is_interrupted(interrupt) {
        return Ok(summary.report(Vec::new(), None, Verdict::Interrupted));
    }
    let audited = audited.map(|mut audited| {
        for (item, least) in audited.ledger.items.iter_mut().zip(&seen.least) {
            // The level after the drain is a look as well: a busy machine may have taken none since the last sale.
            item.least_seen = (*least).into_iter().chain(item.left).min();
        }
        audited.ledger.source = audit.name();
        audited.ledger.stock_looks = seen.looks;
        audited.ledger.stock_unknown = seen.unknown;
        audited
    });
    let mut checks = verdict::checks(&Evidence {
        plan,
        record: &fired.record,
        offered_rate: summary.offered_rate(),
        busy_share: summary.busiest(|core| core.ran_ns),
        audited: audited.as_ref(),
        gateway: gateway.as_ref(),
        processor: processor.as_ref(),
        counted: &counted,
        ends,
        faults: &fired.faults,
    });
    checks.extend(scraped.checks(fired.start_unix_ms));
    part::withhold(&mut checks, plan.shard);
    let verdict = Verdict::of(&checks);
    Ok(summary.report(checks, audited.map(|audited| audited.ledger), verdict))
}

/// The alerts that the plan names, read before anything is asked of the target.
fn rules(plan: &Plan) -> Result<Option<Rules>, RunError> {
    let rules = plan.alerts.as_deref().map(Rules::read).transpose();
    let rules = rules.map_err(|error| {
        RunError::Alerts(format!(
            "{error}. Remedy: mend the file, or leave --alerts away; docs/alerts.md lists what is understood, and \
             promtool check rules knows the rest"
        ))
    })?;
    let unknown = match &rules {
        Some(rules) => rules.unknown(&plan.ignored_alerts),
        None => plan.ignored_alerts.iter().map(String::as_str).collect(),
    };
    if unknown.is_empty() {
        return Ok(rules);
    }
    let there: Vec<_> = rules.iter().flat_map(|rules| &rules.alerts).map(|alert| &*alert.name).collect();
    let there = if there.is_empty() { "no rule file is given".to_owned() } else { there.join(", ") };
    Err(RunError::Alerts(format!("no alert {} to ignore; there are: {there}", unknown.join(", "))))
}

/// Puts the stock in place, or finds it there; the units of every item when the source knows them.
fn stock_up(plan: &Plan, audit: &AuditSource) -> Result<Option<Stocked>, RunError> {
    let mut stocked = Ok(None);
    launch::run(0, None, |_| async {
        stocked = match Reader::open(audit, plan).await {
            Ok(Some(reader)) => reader.stock_up(plan).await,
            Ok(None) => Ok(None),
            Err(reason) => Err(reason),
        };
    })
    .map_err(RunError::Core)?;
    stocked.map_err(RunError::Truth)
}

/// What was known before the first arrival.
#[derive(Clone, Copy)]
struct Known<'a> {
    stocked: Option<&'a Stocked>,
    beginning: Option<&'a Beginning>,
}

/// Drain and audit on a runtime of this thread; `None` when there is no source.
#[expect(clippy::too_many_arguments, reason = "the parts of one run, each used once")]
fn inquire(
    plan: &Plan,
    audit: &AuditSource,
    workload: &Workload,
    fired: &Fired,
    known: Known<'_>,
    interrupt: &Arc<AtomicBool>,
    watch: &Watch,
    progress: &mut impl Progress,
) -> Result<Option<Audited>, RunError> {
    let mut audited = None;
    launch::run(0, None, |_| async {
        audited = match Reader::open(audit, plan).await {
            Ok(None) => None,
            Err(reason) => Some(Audited {
                ledger: LedgerReport::default(),
                looked_at: 0,
                trouble: Some(reason),
                topics: None,
            }),
            Ok(Some(reader)) => {
                let moment = fired.moment.clone();
                let books = &fired.books;
                let shown_at = Instant::now();
                let mut context =
                    AuditContext { reader, workload, books, interrupt, watch, moment, progress, shown_at };
                Some(audit::audit(&mut context, plan, &fired.record, known.stocked, known.beginning).await)
            }
        };
    })
    .map_err(RunError::Core)?;
    Ok(audited)
}

fn read_processor(address: SocketAddr) -> Result<MetricsPage, String> {
    MetricsPage::read(address, &address.to_string())
}

fn pages(
    before: Result<MetricsPage, String>,
    after: impl FnOnce() -> Result<MetricsPage, String>,
) -> verdict::Pages {
    Ok((before?, after()?))
}
