//! One run from start to verdict: check the plan, prepare stock, send load, drain, audit, judge.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alerts::Rules;
use audit::evidence::StartOffsets;
use audit::source::{AuditSource, InitialStock, Reader};
use audit::{AuditContext, Audited, Position};
use report::{Counted, LedgerReport, Report, Service, Verdict};
use shard::{clock, launch};

use crate::counters;
use crate::drive::{self, Background, LoadResult, is_interrupted};
use crate::end_to_end::Follower;
use crate::endpoint::{Endpoint, RunCells};
use crate::metrics::MetricsPage;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::run_error::RunError;
use crate::scrape::Scrape;
use crate::summary::Summary;
use crate::verdict::{self, CheckInputs};
use crate::watch::Watch;
use crate::withheld;
use crate::workload::Workload;

/// Timeout of the first connection to the target.
const REACH_WAIT_MAX: Duration = Duration::from_secs(5);

/// Runs a plan and returns its report with the verdict. Blocks; call it from a thread without a runtime.
/// Setting `interrupt` ends the run early: the report then has the measurements so far, and nothing is
/// judged.
///
/// # Errors
/// [`RunError`] when the run could not be started or continued.
pub fn run(
    plan: &Plan,
    audit: &AuditSource,
    mut progress: impl Progress,
    interrupt: &Arc<AtomicBool>,
) -> Result<Report, RunError> {
    let errors = plan.errors();
    if !errors.is_empty() {
        return Err(RunError::Plan(errors));
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
    let initial_stock = prepare_stock(plan, audit)?;
    let start_offsets =
        plan.topics.as_ref().map(StartOffsets::capture).transpose().map_err(RunError::Topics)?;
    let before_unix_ms = clock::unix_ms();
    let gateway = plan.gateway_metrics.then(|| MetricsPage::read(plan.target, &plan.host));
    let processor = plan.processor_metrics.map(|address| (address, read_processor(address)));

    let watch = Watch::begin(audit, plan).map_err(RunError::Core)?;
    let follower = Follower::begin(audit, plan, &workload).map_err(RunError::Core)?;
    let scrape = Scrape::begin(plan, rules.as_ref()).map_err(RunError::Core)?;
    let background = Background { watch: &watch, follower: &follower, cells };
    let mut load = drive::drive(plan, &workload, requests, interrupt, &background, &mut progress)?;
    let audited = if is_interrupted(interrupt) {
        None
    } else {
        let before_run =
            BeforeRun { initial_stock: initial_stock.as_ref(), start_offsets: start_offsets.as_ref() };
        run_audit(plan, audit, &workload, &load, before_run, interrupt, &watch, &mut progress)?
    };
    let stock = watch.end();
    let end_to_end = follower.end();
    if let Some(end_to_end) = &end_to_end {
        load.record.end_to_end = end_to_end.histogram.clone();
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
        Some(counters::counted(service, address?.to_string(), unix_ms, pages))
    };
    let counted: Vec<Counted> = read.into_iter().filter_map(counted).collect();
    let (end_to_end, scraped, stock) = (end_to_end.as_ref(), &scraped, &stock);
    let summary = Summary { plan, requests, load: &load, stock, end_to_end, scraped, counted: &counted };
    if is_interrupted(interrupt) {
        return Ok(summary.report(Vec::new(), None, Verdict::Interrupted));
    }
    let audited = audited.map(|mut audited| {
        for (item, least) in audited.ledger.items.iter_mut().zip(&stock.least) {
            // The level after the drain counts as a sample too: on a busy machine, the last sample may be
            // older than the last sale.
            item.least_seen = (*least).into_iter().chain(item.left).min();
        }
        audited.ledger.source = audit.name();
        audited.ledger.stock_looks = stock.polls;
        audited.ledger.stock_unknown = stock.unknown;
        audited
    });
    let mut checks = verdict::checks(&CheckInputs {
        plan,
        record: &load.record,
        offered_rate: summary.offered_rate(),
        busy_share: summary.busiest(|core| core.ran_ns),
        audited: audited.as_ref(),
        gateway: gateway.as_ref(),
        processor: processor.as_ref(),
        counted: &counted,
        end_to_end,
        faults: &load.faults,
    });
    checks.extend(scraped.checks(load.start_unix_ms));
    withheld::withhold(&mut checks, plan.shard);
    let verdict = Verdict::of(&checks);
    Ok(summary.report(checks, audited.map(|audited| audited.ledger), verdict))
}

/// Reads the plan's alert rules before the first request to the target.
fn rules(plan: &Plan) -> Result<Option<Rules>, RunError> {
    let rules = plan.alerts.as_deref().map(Rules::read).transpose();
    let rules = rules.map_err(|error| {
        RunError::Alerts(format!(
            "{error}. Remedy: correct the file, or omit --alerts; docs/alerts.md lists what is supported, and \
             promtool check rules finds other errors"
        ))
    })?;
    let unknown = match &rules {
        Some(rules) => rules.unknown(&plan.ignored_alerts),
        None => plan.ignored_alerts.iter().map(String::as_str).collect(),
    };
    if unknown.is_empty() {
        return Ok(rules);
    }
    let known: Vec<_> = rules.iter().flat_map(|rules| &rules.alerts).map(|alert| &*alert.name).collect();
    let known = if known.is_empty() { "no rule file is given".to_owned() } else { known.join(", ") };
    Err(RunError::Alerts(format!("unknown alert in --ignore-alert: {}; known: {known}", unknown.join(", "))))
}

/// Sets the stock, or checks that it is the stock of the plan. Returns the stock before the first arrival;
/// `None` if the audit source has no stock.
fn prepare_stock(plan: &Plan, audit: &AuditSource) -> Result<Option<InitialStock>, RunError> {
    let sale = plan.sale();
    let mut initial_stock = Ok(None);
    launch::run(0, None, |_| async {
        initial_stock = match Reader::open(audit, &sale).await {
            Ok(Some(reader)) => reader.prepare_stock(&sale).await,
            Ok(None) => Ok(None),
            Err(reason) => Err(reason),
        };
    })
    .map_err(RunError::Core)?;
    initial_stock.map_err(RunError::AuditSource)
}

/// State of stock and topics before the first arrival.
#[derive(Clone, Copy)]
struct BeforeRun<'a> {
    initial_stock: Option<&'a InitialStock>,
    start_offsets: Option<&'a StartOffsets>,
}

/// Drains and audits on a runtime of this thread; `None` without an audit source.
#[expect(clippy::too_many_arguments, reason = "all parts of one run, each used once")]
fn run_audit(
    plan: &Plan,
    audit: &AuditSource,
    workload: &Workload,
    load: &LoadResult,
    before_run: BeforeRun<'_>,
    interrupt: &Arc<AtomicBool>,
    watch: &Watch,
    progress: &mut impl Progress,
) -> Result<Option<Audited>, RunError> {
    let sale = plan.sale();
    let mut audited = None;
    launch::run(0, None, |_| async {
        audited = match Reader::open(audit, &sale).await {
            Ok(None) => None,
            Err(reason) => Some(Audited {
                ledger: LedgerReport::default(),
                orders_checked: 0,
                error: Some(reason),
                topics: None,
            }),
            Ok(Some(reader)) => {
                let mut moment = load.moment.clone();
                moment.in_flight = 0;
                let mut show = |position: Position| {
                    moment.stage = position.stage.into();
                    (moment.orders_done, moment.orders_all) = (position.orders_done, position.orders_all);
                    moment.stock = watch.stock_now();
                    progress.update(&moment);
                };
                let mut context = AuditContext::new(reader, workload, &load.ledgers, interrupt, &mut show);
                let BeforeRun { initial_stock, start_offsets } = before_run;
                Some(audit::audit(&mut context, &sale, &load.record, initial_stock, start_offsets).await)
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
