//! The audit of all orders in the topics, whoever sent them: every record of `orders` has exactly one final
//! status in Redis, every order whose final status requires a dead letter has one, and the units add up.
//!
//! One pass over `orders-dlq`, then one over `orders`, a thousand ids at a time. Memory: 8 bytes per order
//! and 8 per dead letter, as 64-bit hashes. Among a hundred million ids, two share a hash with a probability
//! of 3 in ten thousand; one of them would then count as a repeat.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::time::Duration;

use queue::reader::{Entry, TopicReader};
use report::{Check, CheckKind, CheckState, Verdict, Violation};
use serde::Serialize;
use shard::launch;
use store::open::Source;
use store::{Answer, AnyStore, Command, StoreError};
use wire::names::{DeadLetterReason, Status};
use wire::record;

use crate::source::{IDS_MAX, open_store, query};

/// How long the broker may take to respond while records are left to read.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Maximum number of ids listed in a violation.
const NAMED_MAX: usize = 20;

/// Addresses and topics of the audited system.
#[derive(Debug, Clone)]
pub struct Services {
    /// Statuses and stock.
    pub source: Source,
    /// Bootstrap servers.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
}

/// Result of the audit.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicsReport {
    /// Records in `orders`.
    pub records: u64,
    /// Distinct request ids among them.
    pub orders: u64,
    /// Records with an id seen before: a retry of a send with an unknown result, or a replay.
    pub repeats: u64,
    /// Records that are not orders.
    pub not_orders: u64,
    /// Orders by final status.
    pub ends: BTreeMap<&'static str, u64>,
    /// Orders still PENDING.
    pub pending: u64,
    /// Orders without any status.
    pub without_status: u64,
    /// Records in `orders-dlq`.
    #[serde(rename = "letters")]
    pub dead_letters: u64,
    /// Dead letters by the value of the header `error`.
    #[serde(rename = "letters_by_reason")]
    pub dead_letters_by_reason: BTreeMap<String, u64>,
    /// Units per item.
    pub items: Vec<TopicItem>,
    /// The checks.
    pub checks: Vec<Check>,
    /// Orders that broke a check.
    #[serde(rename = "offences")]
    pub violations: Vec<Violation>,
    /// The verdict; `None` before the checks.
    pub verdict: Option<Verdict>,
}

/// Units of one item.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicItem {
    /// The item.
    pub item_id: String,
    /// Units of COMPLETED orders.
    pub sold: i64,
    /// Units of `FAILED_PAYMENT` orders, which were returned to the stock.
    pub refunded: i64,
    /// Units brought in, from the ledger; `null` if there is no ledger.
    pub brought_in: Option<i64>,
    /// Units held or sold, from the ledger.
    pub taken: Option<i64>,
    /// Units left; `null` if unknown.
    pub left: Option<i64>,
}

/// An order of the current batch.
struct OrderRecord {
    request_id: String,
    item_id: String,
    amount: i64,
}

struct AuditState {
    hashes: RandomState,
    seen: HashSet<u64>,
    /// Hashes of reason and id of each dead letter.
    with_dead_letter: HashSet<u64>,
    items: BTreeMap<String, TopicItem>,
    without_final_status: ViolatingIds,
    without_dead_letter: ViolatingIds,
    /// No record was deleted by the topic's retention: only then does it contain every order that was sold.
    is_whole: bool,
    report: TopicsReport,
}

#[derive(Default)]
struct ViolatingIds {
    count: u64,
    ids: Vec<String>,
}

impl ViolatingIds {
    fn push(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < NAMED_MAX {
            self.ids.push(id.to_owned());
        }
    }
}

/// Audits all orders in the topics. Blocks until both topics are read. The sale should be finished: an order
/// still in flight counts as PENDING. `progress` receives the number of records left.
///
/// # Errors
/// If Redis or Kafka cannot be read.
pub fn audit(services: &Services, mut progress: impl FnMut(u64)) -> Result<TopicsReport, String> {
    let mut found = Err("the audit did not run".to_owned());
    launch::run(0, None, |_| async {
        found = run_audit(services, &mut progress).await;
    })
    .map_err(|error| error.to_string())?;
    found
}

async fn run_audit(services: &Services, progress: &mut impl FnMut(u64)) -> Result<TopicsReport, String> {
    let store = open_store(&services.source).await?;
    let mut state = AuditState {
        hashes: RandomState::new(),
        seen: HashSet::new(),
        with_dead_letter: HashSet::new(),
        items: BTreeMap::new(),
        without_final_status: ViolatingIds::default(),
        without_dead_letter: ViolatingIds::default(),
        is_whole: false,
        report: TopicsReport::default(),
    };
    let open =
        |topic: &str| TopicReader::open(&services.kafka, topic, WAIT_MAX).map_err(|error| error.to_string());
    let mut dead_letters = open(&services.dlq_topic)?;
    dead_letters
        .read(|entry| {
            state.dead_letter(entry);
            ControlFlow::Continue(())
        })
        .map_err(|error| error.to_string())?;
    let mut orders = open(&services.orders_topic)?;
    state.is_whole = orders.is_whole();
    loop {
        let mut batch = Vec::with_capacity(IDS_MAX);
        let is_over = orders
            .read(|entry| {
                batch.extend(state.order(entry));
                if batch.len() < IDS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|error| error.to_string())?;
        state.judge(&store, &batch).await?;
        progress(orders.left());
        if is_over {
            break;
        }
    }
    state.count_items(&store).await?;
    Ok(state.finish())
}

impl AuditState {
    fn dead_letter(&mut self, entry: &Entry<'_>) {
        self.report.dead_letters += 1;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let reason = text(entry.header(c"error"));
        let id = match entry.header(c"request_id") {
            Some(id) => Some(text(Some(id))),
            None => {
                entry.value().and_then(|value| record::decode(value).ok()).map(|o| o.request_id.into_owned())
            }
        };
        if let Some(id) = id {
            self.with_dead_letter.insert(self.hashes.hash_one((reason.as_str(), id.as_str())));
        }
        *self.report.dead_letters_by_reason.entry(reason).or_default() += 1;
    }

    fn order(&mut self, entry: &Entry<'_>) -> Option<OrderRecord> {
        self.report.records += 1;
        let Some(order) = entry.value().and_then(|value| record::decode(value).ok()) else {
            self.report.not_orders += 1;
            return None;
        };
        if !self.seen.insert(self.hashes.hash_one(order.request_id.as_ref())) {
            self.report.repeats += 1;
            return None;
        }
        Some(OrderRecord {
            request_id: order.request_id.into_owned(),
            item_id: order.item_id.into_owned(),
            amount: i64::from(order.amount),
        })
    }

    async fn judge(&mut self, store: &AnyStore, batch: &[OrderRecord]) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        let request_ids: Vec<&str> = batch.iter().map(|order| order.request_id.as_str()).collect();
        let statuses = match query(store, &Command::Statuses { request_ids: &request_ids }).await? {
            Answer::Statuses(statuses) if statuses.len() == batch.len() => statuses,
            other => return Err(StoreError::unexpected(&other).to_string()),
        };
        for (order, status) in batch.iter().zip(statuses) {
            self.report.orders += 1;
            let Some(end) = status.filter(|status| status.is_final()) else {
                let open =
                    if status.is_some() { &mut self.report.pending } else { &mut self.report.without_status };
                *open += 1;
                self.without_final_status.push(&order.request_id);
                continue;
            };
            *self.report.ends.entry(end.word()).or_default() += 1;
            if let Some(reason) = dead_letter_of(end)
                && !self
                    .with_dead_letter
                    .contains(&self.hashes.hash_one((reason.word(), order.request_id.as_str())))
            {
                self.without_dead_letter.push(&order.request_id);
            }
            let item = self.items.entry(order.item_id.clone()).or_default();
            match end {
                Status::Completed => item.sold += order.amount,
                Status::FailedPayment => item.refunded += order.amount,
                _ => {}
            }
        }
        Ok(())
    }

    async fn count_items(&mut self, store: &AnyStore) -> Result<(), String> {
        let names: Vec<String> = self.items.keys().cloned().collect();
        for some in names.chunks(IDS_MAX) {
            let items: Vec<&str> = some.iter().map(String::as_str).collect();
            let Answer::Stock(left) = query(store, &Command::Stock { items: &items }).await? else {
                return Err("unexpected reply to the stock query".to_owned());
            };
            let Answer::Ledgers(ledgers) = query(store, &Command::Ledgers { items: &items }).await? else {
                return Err("unexpected reply to the ledger query".to_owned());
            };
            for ((name, left), ledger) in some.iter().zip(left).zip(ledgers) {
                let Some(mut item) = self.items.remove(name) else { continue };
                item.item_id.clone_from(name);
                item.left = left;
                item.brought_in = ledger.map(|ledger| ledger.base);
                item.taken = ledger.map(|ledger| ledger.taken);
                self.report.items.push(item);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> TopicsReport {
        let report = &mut self.report;
        let is_complete = self.without_final_status.count == 0 && self.is_whole;
        for (rule, named) in [
            ("every_record_ends", self.without_final_status),
            ("every_failure_has_its_letter", self.without_dead_letter),
        ] {
            report.checks.push(count_check(rule, named.count as f64, 0.0, ""));
            if named.count > 0 {
                report.violations.push(Violation { rule, count: named.count, request_ids: named.ids });
            }
        }
        let known = || report.items.iter().filter(|item| item.left.is_some());
        let negative = known().filter(|item| item.left < Some(0)).count();
        let drifted = known().filter(|item| {
            item.brought_in.zip(item.taken).is_some_and(|(brought_in, taken)| {
                Some(brought_in - taken) != item.left || (is_complete && taken != item.sold)
            })
        });
        let checks = [
            count_check("stock_never_negative", negative as f64, 0.0, "items with a negative stock"),
            count_check(
                "units_add_up",
                drifted.count() as f64,
                0.0,
                "items whose units brought in differ from sold + left, in the ledger or by the orders",
            ),
        ];
        report.checks.extend(checks);
        report.verdict = Some(Verdict::of(&report.checks));
        self.report
    }
}

/// Reason of the dead letter that a final status requires.
fn dead_letter_of(end: Status) -> Option<DeadLetterReason> {
    match end {
        Status::FailedPayment => Some(DeadLetterReason::PaymentTimeout),
        Status::FailedUnknownItem => Some(DeadLetterReason::UnknownItem),
        Status::Pending | Status::Completed | Status::FailedSoldOut => None,
    }
}

fn count_check(name: &str, value: f64, limit: f64, detail: &str) -> Check {
    let state = if (value - limit).abs() < 0.5 { CheckState::Pass } else { CheckState::Fail };
    Check {
        name: name.to_owned(),
        kind: CheckKind::Ledger,
        state,
        value: Some(value),
        relation: "=",
        limit,
        detail: detail.to_owned(),
    }
}

impl TopicsReport {
    /// The report as indented JSON.
    ///
    /// # Errors
    /// Never for this type; serde's signature requires the `Result`.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
