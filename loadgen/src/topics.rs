//! The audit of whatever lies in the topics, whoever sent it: every record of `orders` has exactly one end in
//! Redis, every end that needs a dead letter has one, and the units add up.
//!
//! One walk over `orders-dlq`, then one over `orders`, a thousand ids at a time. Memory: 8 bytes an order and
//! 8 a letter, as hashes of 64 bits; among a hundred million ids two share a hash with a chance of 3 in ten
//! thousand, and one of them would then count as a repeat.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::time::Duration;

use queue::reader::{Entry, TopicReader};
use serde::Serialize;
use shard::launch;
use store::open::Source;
use store::{Answer, AnyStore, Command, StoreError};
use wire::names::{DeadLetterReason, Status};
use wire::record;

use crate::report::{Check, CheckKind, CheckState, Offence, Verdict};
use crate::truth::{IDS_MAX, ask, open_store};

/// How long the broker may be silent while something is left to read.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Offending ids that are named.
const NAMED_MAX: usize = 20;

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Places {
    /// Statuses and stock.
    pub source: Source,
    /// Bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicsReport {
    /// Records of `orders`.
    pub records: u64,
    /// Different request ids among them.
    pub orders: u64,
    /// Records whose id had come before: a retry whose first try was not known to be persisted, or a replay.
    pub repeats: u64,
    /// Records that are no order.
    pub not_orders: u64,
    /// Orders by the plain word of their end.
    pub ends: BTreeMap<&'static str, u64>,
    /// Orders still PENDING.
    pub pending: u64,
    /// Orders without any status.
    pub without_status: u64,
    /// Records of `orders-dlq`.
    pub letters: u64,
    /// By the header `error`.
    pub letters_by_reason: BTreeMap<String, u64>,
    /// Per item of the orders.
    pub items: Vec<TopicItem>,
    /// What must hold.
    pub checks: Vec<Check>,
    /// Who broke it.
    pub offences: Vec<Offence>,
    /// The sum; `None` before the checks.
    pub verdict: Option<Verdict>,
}

/// Units of one item.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicItem {
    /// The item.
    pub item_id: String,
    /// Units of COMPLETED orders.
    pub sold: i64,
    /// Units of `FAILED_PAYMENT` orders, which were on sale again.
    pub refunded: i64,
    /// Units brought in, by the ledger; `null` when none is kept.
    pub brought_in: Option<i64>,
    /// Units held or sold, by the ledger.
    pub taken: Option<i64>,
    /// Units left; `null` is unknown.
    pub left: Option<i64>,
}

/// An order of the current thousand.
struct Asked {
    request_id: String,
    item_id: String,
    amount: i64,
}

struct Walk {
    hashes: RandomState,
    seen: HashSet<u64>,
    /// Ids with a letter, with the reason's word.
    lettered: HashSet<u64>,
    items: BTreeMap<String, TopicItem>,
    unended: Named,
    unlettered: Named,
    /// No record of the topic was deleted by its retention: only then are its orders all that was sold.
    is_whole: bool,
    report: TopicsReport,
}

#[derive(Default)]
struct Named {
    count: u64,
    ids: Vec<String>,
}

impl Named {
    fn push(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < NAMED_MAX {
            self.ids.push(id.to_owned());
        }
    }
}

/// Audits. Blocks for as long as the topics are long; the sale should be at rest, or what moves counts as
/// PENDING. `progress` is told how many records are left.
///
/// # Errors
/// When Redis or Kafka cannot be read.
pub fn audit(places: &Places, mut progress: impl FnMut(u64)) -> Result<TopicsReport, String> {
    let mut found = Err("the audit did not run".to_owned());
    launch::run(0, None, |_| async {
        found = walk(places, &mut progress).await;
    })
    .map_err(|error| error.to_string())?;
    found
}

async fn walk(places: &Places, progress: &mut impl FnMut(u64)) -> Result<TopicsReport, String> {
    let store = open_store(&places.source).await?;
    let mut walk = Walk {
        hashes: RandomState::new(),
        seen: HashSet::new(),
        lettered: HashSet::new(),
        items: BTreeMap::new(),
        unended: Named::default(),
        unlettered: Named::default(),
        is_whole: false,
        report: TopicsReport::default(),
    };
    let open =
        |topic: &str| TopicReader::open(&places.kafka, topic, WAIT_MAX).map_err(|error| error.to_string());
    let mut letters = open(&places.dlq_topic)?;
    letters
        .read(|entry| {
            walk.letter(entry);
            ControlFlow::Continue(())
        })
        .map_err(|error| error.to_string())?;
    let mut orders = open(&places.orders_topic)?;
    walk.is_whole = orders.is_whole();
    loop {
        let mut asked = Vec::with_capacity(IDS_MAX);
        let is_over = orders
            .read(|entry| {
                asked.extend(walk.order(entry));
                if asked.len() < IDS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|error| error.to_string())?;
        walk.judge(&store, &asked).await?;
        progress(orders.left());
        if is_over {
            break;
        }
    }
    walk.count_items(&store).await?;
    Ok(walk.finish())
}

impl Walk {
    fn letter(&mut self, entry: &Entry<'_>) {
        self.report.letters += 1;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let reason = text(entry.header(c"error"));
        let id = match entry.header(c"request_id") {
            Some(id) => Some(text(Some(id))),
            None => {
                entry.value().and_then(|value| record::decode(value).ok()).map(|o| o.request_id.into_owned())
            }
        };
        if let Some(id) = id {
            self.lettered.insert(self.hashes.hash_one((reason.as_str(), id.as_str())));
        }
        *self.report.letters_by_reason.entry(reason).or_default() += 1;
    }

    fn order(&mut self, entry: &Entry<'_>) -> Option<Asked> {
        self.report.records += 1;
        let Some(order) = entry.value().and_then(|value| record::decode(value).ok()) else {
            self.report.not_orders += 1;
            return None;
        };
        if !self.seen.insert(self.hashes.hash_one(order.request_id.as_ref())) {
            self.report.repeats += 1;
            return None;
        }
        Some(Asked {
            request_id: order.request_id.into_owned(),
            item_id: order.item_id.into_owned(),
            amount: i64::from(order.amount),
        })
    }

    async fn judge(&mut self, store: &AnyStore, asked: &[Asked]) -> Result<(), String> {
        if asked.is_empty() {
            return Ok(());
        }
        let request_ids: Vec<&str> = asked.iter().map(|order| order.request_id.as_str()).collect();
        let statuses = match ask(store, &Command::Statuses { request_ids: &request_ids }).await? {
            Answer::Statuses(statuses) if statuses.len() == asked.len() => statuses,
            other => return Err(StoreError::unexpected(&other).to_string()),
        };
        for (order, status) in asked.iter().zip(statuses) {
            self.report.orders += 1;
            let Some(end) = status.filter(|status| status.is_end()) else {
                let open =
                    if status.is_some() { &mut self.report.pending } else { &mut self.report.without_status };
                *open += 1;
                self.unended.push(&order.request_id);
                continue;
            };
            *self.report.ends.entry(end.word()).or_default() += 1;
            if let Some(reason) = letter_of(end)
                && !self.lettered.contains(&self.hashes.hash_one((reason.word(), order.request_id.as_str())))
            {
                self.unlettered.push(&order.request_id);
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
            let Answer::Stock(left) = ask(store, &Command::Stock { items: &items }).await? else {
                return Err("an unexpected answer about the stock".to_owned());
            };
            let Answer::Ledgers(ledgers) = ask(store, &Command::Ledgers { items: &items }).await? else {
                return Err("an unexpected answer about the ledgers".to_owned());
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
        let is_complete = self.unended.count == 0 && self.is_whole;
        for (rule, named) in
            [("every_record_ends", self.unended), ("every_failure_has_its_letter", self.unlettered)]
        {
            report.checks.push(count_check(rule, named.count as f64, 0.0, ""));
            if named.count > 0 {
                report.offences.push(Offence { rule, count: named.count, request_ids: named.ids });
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
            count_check("stock_never_negative", negative as f64, 0.0, "items below zero"),
            count_check(
                "units_add_up",
                drifted.count() as f64,
                0.0,
                "items where brought in is not sold + left, by the ledger and by the orders",
            ),
        ];
        report.checks.extend(checks);
        report.verdict = Some(Verdict::of(&report.checks));
        self.report
    }
}

/// The dead letter that an end needs.
fn letter_of(end: Status) -> Option<DeadLetterReason> {
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
    /// As JSON, indented.
    ///
    /// # Errors
    /// Never for a report of ours; serde's signature wants it said.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
