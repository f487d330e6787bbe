//! Compares the ledger with the store and the topics, order by order, and counts the units.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use report::{ItemReport, LedgerReport, Record, Violation};
use shard::clock;
use wire::names::Status;

use crate::drain::{AuditContext, DrainResult, Stage};
use crate::evidence::{StartOffsets, TopicContents};
use crate::ledger::{Rule, Violators, broken_rule, broken_topic_rules, needs_dead_letter};
use crate::sale::{Orders, Sale};
use crate::source::{IDS_MAX, InitialStock, StockTotals};

/// Name of the check, and of the violation, for units sold beyond the stock.
pub const NO_OVERSELL: &str = "no_oversell";

/// How long the audit waits for missing dead letters. A dead letter is written after the final status of its
/// order. If Kafka has not acknowledged it after 10 s, the processor writes it again; this is twice as long.
const DEAD_LETTERS_WAIT_MAX: Duration = Duration::from_secs(20);
/// Interval between two reads of the topics.
const DEAD_LETTERS_INTERVAL: Duration = Duration::from_secs(1);

/// Result of the audit; complete only if `error` is `None`.
#[derive(Debug)]
pub struct Audited {
    /// The audit in numbers.
    pub ledger: LedgerReport,
    /// Number of orders checked.
    pub orders_checked: u64,
    /// Why the audit stopped early.
    pub error: Option<String>,
    /// Whether the topics could be read; `None` if they were not requested.
    pub topics: Option<Result<(), String>>,
}

/// Units of one item, counted from its orders.
#[derive(Debug, Clone, Default)]
struct Units {
    sold: u64,
    refunded: u64,
    sold_out_orders: u64,
}

/// Counts and violations, collected while the orders are checked.
struct Tally<'a> {
    sale: &'a Sale,
    initial_stock: Option<&'a InitialStock>,
    /// Read after the drain, before the orders are checked.
    stock: Option<StockTotals>,
    /// Seeded plus restocked units, by item.
    on_sale: Option<Vec<i64>>,
    units: Vec<Units>,
    violators: BTreeMap<Rule, Violators>,
    oversold: Violators,
    contents: Option<TopicContents>,
    ledger: LedgerReport,
}

/// Waits for the final statuses, then checks every order. `initial_stock` is the stock before the first
/// arrival, if known.
pub async fn audit<O: Orders>(
    context: &mut AuditContext<'_, O>,
    sale: &Sale,
    record: &Record,
    initial_stock: Option<&InitialStock>,
    start_offsets: Option<&StartOffsets>,
) -> Audited {
    let ledgers = context.ledgers;
    let mut tally = Tally {
        sale,
        initial_stock,
        stock: None,
        on_sale: None,
        units: vec![Units::default(); sale.items.len()],
        violators: BTreeMap::new(),
        oversold: Violators::default(),
        contents: None,
        ledger: LedgerReport::default(),
    };
    tally.count_responses(context);
    context.enter(Stage::Draining, tally.ledger.acknowledged);
    let mut orders_checked = 0;
    let mut topics = None;
    let error = match crate::drain::drain(context, sale.drain_timeout).await {
        Err(reason) => Some(reason),
        Ok(drained) => {
            tally.ledger.drain_ms = drained.took.as_millis() as u64;
            let read = start_offsets.map(|start_offsets| read_topics(start_offsets, sale, &drained));
            topics = read.map(|read| read.map(|contents| tally.contents = Some(contents)));
            check_orders(context, &mut tally, &drained, &mut orders_checked).await.err()
        }
    };
    if let Some(twice) = Some(ledgers.acknowledged_twice()).filter(|twice| twice.count > 0) {
        tally.violators.insert(Rule::AcknowledgedOnce, twice);
    }
    tally.name_violations(context);
    tally.count_items(record);
    Audited { ledger: tally.ledger, orders_checked, error, topics }
}

/// Reads the topics, and again until no dead letter is missing or [`DEAD_LETTERS_WAIT_MAX`] has passed. Dead
/// letters are written after the final statuses, and late if Kafka has only just recovered.
fn read_topics(
    start_offsets: &StartOffsets,
    sale: &Sale,
    drained: &DrainResult,
) -> Result<TopicContents, String> {
    let deadline = Instant::now() + DEAD_LETTERS_WAIT_MAX;
    loop {
        let contents = start_offsets.read(sale)?;
        let is_missing = |&sequence: &u64| {
            needs_dead_letter(Some(drained.final_statuses.get(sequence)))
                && !contents.has_dead_letter(sequence)
        };
        if Instant::now() >= deadline || !(0..drained.below).any(|sequence| is_missing(&sequence)) {
            return Ok(contents);
        }
        thread::sleep(DEAD_LETTERS_INTERVAL);
    }
}

async fn check_orders<O: Orders>(
    context: &mut AuditContext<'_, O>,
    tally: &mut Tally<'_>,
    drained: &DrainResult,
    orders_checked: &mut u64,
) -> Result<(), String> {
    let buyers = context.ledgers.buyers();
    context.enter(Stage::Auditing, buyers);
    tally.record_stock(context.reader.stock_totals(&tally.sale.items).await?);
    let mut next = 0;
    while next < buyers && !context.is_interrupted() {
        let to = (next + IDS_MAX as u64).min(buyers);
        let sequences: Vec<u64> = (next..to).filter(|&sequence| context.ledgers.has(sequence)).collect();
        let statuses = context.statuses(&sequences).await?;
        for (&sequence, &status) in sequences.iter().zip(&statuses) {
            tally.judge(context, sequence, status, drained);
        }
        *orders_checked += sequences.len() as u64;
        next = to;
        context.show(to);
    }
    Ok(())
}

impl Tally<'_> {
    fn record_stock(&mut self, stock: Option<StockTotals>) {
        self.ledger.stock_read_unix_ms = stock.is_some().then(clock::unix_ms);
        self.on_sale = self.initial_stock.zip(stock.as_ref()).map(|(initial, stock)| {
            initial.seeded.iter().zip(initial.restocked(stock)).map(|(seeded, more)| seeded + more).collect()
        });
        self.stock = stock;
    }

    fn count_responses<O: Orders>(&mut self, context: &AuditContext<'_, O>) {
        for sequence in 0..context.ledgers.buyers() {
            let responses = context.ledgers.get(sequence);
            self.ledger.orders += u64::from(!responses.is_empty());
            if responses.acknowledged() {
                self.ledger.acknowledged += 1;
            } else if responses.indeterminate() {
                self.ledger.indeterminate += 1;
            } else if responses.refused() {
                self.ledger.refused += 1;
            }
        }
    }

    fn judge<O: Orders>(
        &mut self,
        context: &AuditContext<'_, O>,
        sequence: u64,
        status: Option<Status>,
        drained: &DrainResult,
    ) {
        let responses = context.ledgers.get(sequence);
        let mut broken = broken_rule(responses, status);
        if responses.acknowledged()
            && sequence < drained.below
            && status != Some(drained.final_statuses.get(sequence))
        {
            broken = Some(Rule::FinalStatusNeverChanges);
        }
        if broken == Some(Rule::AcknowledgedHasFinalStatus) {
            self.ledger.unfinished += 1;
            let is_pending = status == Some(Status::Pending);
            let is_recorded = self.contents.as_ref().is_some_and(|contents| contents.has_record(sequence));
            self.ledger.pending += u64::from(is_pending);
            self.ledger.pending_recorded += u64::from(is_pending && is_recorded);
        }
        let of_topics = self.contents.iter().flat_map(|contents| {
            let (has_record, has_dead_letter) =
                (contents.has_record(sequence), contents.has_dead_letter(sequence));
            broken_topic_rules(responses, status, has_record, has_dead_letter)
        });
        for rule in broken.into_iter().chain(of_topics) {
            self.violators.entry(rule).or_default().push(sequence);
        }
        let Some(end) = status.filter(|status| status.is_final()) else { return };
        *self.ledger.ends.entry(end.word()).or_default() += 1;
        let want = context.orders.want(sequence);
        let units = &mut self.units[want.item];
        match end {
            Status::Completed => {
                units.sold += u64::from(want.amount);
                if self.on_sale.as_ref().is_some_and(|on_sale| units.sold as i64 > on_sale[want.item]) {
                    self.oversold.push(sequence);
                }
            }
            Status::FailedPayment => units.refunded += u64::from(want.amount),
            Status::FailedSoldOut => units.sold_out_orders += 1,
            Status::FailedUnknownItem | Status::Pending => {}
        }
    }

    fn name_violations<O: Orders>(&mut self, context: &AuditContext<'_, O>) {
        let violation = |rule: &'static str, violators: &Violators| Violation {
            rule,
            count: violators.count,
            request_ids: violators
                .sequences
                .iter()
                .map(|&sequence| context.orders.request_id(sequence))
                .collect(),
        };
        for (rule, violators) in &self.violators {
            self.ledger.violations.push(violation(rule.name(), violators));
        }
        if self.oversold.count > 0 {
            self.ledger.violations.push(violation(NO_OVERSELL, &self.oversold));
        }
    }

    fn count_items(&mut self, record: &Record) {
        let Some(initial_stock) = self.initial_stock else { return };
        let stock = self.stock.as_ref();
        let restocked = stock.map(|stock| initial_stock.restocked(stock));
        for (index, item) in self.sale.items.iter().enumerate() {
            let units = &self.units[index];
            self.ledger.items.push(ItemReport {
                item_id: item.id.clone(),
                seeded: initial_stock.seeded[index],
                restocked: restocked.as_ref().map_or(0, |restocked| restocked[index]),
                brought_in: stock.and_then(|stock| stock.brought_in[index]),
                left: stock.and_then(|stock| stock.left[index]),
                sold: units.sold,
                refunded: units.refunded,
                sold_out_refusals: units.sold_out_orders + record.sold_out[index],
                // The load generator fills this in after its last stock sample.
                least_seen: None,
            });
        }
    }
}
