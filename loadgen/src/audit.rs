//! Compares the ledger with the truth, order by order, and counts the units.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use shard::clock;
use wire::names::Status;

use crate::drain::{AuditContext, Drained};
use crate::evidence::{Beginning, Evidence};
use crate::ledger::{Offenders, Rule, broken_rule, broken_topic_rules, wants_letter};
use crate::plan::Plan;
use crate::progress::{Progress, Stage};
use crate::record::Record;
use crate::report::{ItemReport, LedgerReport, Offence};
use crate::truth::{IDS_MAX, StockBooks, Stocked};

/// Name of the offence and of the check of units sold beyond the stock.
pub(crate) const NO_OVERSELL: &str = "no_oversell";

/// A dead letter may come this long after its order's final status: a producer that Kafka does not answer is replaced after 10 s,
/// and then the letter is sent again.
const LETTERS_WAIT_MAX: Duration = Duration::from_secs(20);
/// Between two readings of the topics.
const LETTERS_INTERVAL: Duration = Duration::from_secs(1);

/// What the audit found. Everything in it is complete only when `trouble` is `None`.
#[derive(Debug)]
pub(crate) struct Audited {
    pub(crate) ledger: LedgerReport,
    /// Orders looked at.
    pub(crate) looked_at: u64,
    /// Why it could not go on.
    pub(crate) trouble: Option<String>,
    /// Whether the topics were read; `None` when nobody asked for them.
    pub(crate) topics: Option<Result<(), String>>,
}

/// Units of one item as the orders tell them.
#[derive(Debug, Clone, Default)]
struct Units {
    sold: u64,
    refunded: u64,
    sold_out_ends: u64,
}

struct Tally<'a> {
    plan: &'a Plan,
    stocked: Option<&'a Stocked>,
    /// Read after the last end, before the orders are looked at.
    stock: Option<StockBooks>,
    /// Seeded and restocked, by item.
    on_sale: Option<Vec<i64>>,
    units: Vec<Units>,
    offenders: BTreeMap<Rule, Offenders>,
    oversold: Offenders,
    evidence: Option<Evidence>,
    ledger: LedgerReport,
}

/// Waits for the ends and then looks at every order. `stocked` are the units before the first arrival, when
/// known.
pub(crate) async fn audit<P: Progress>(
    context: &mut AuditContext<'_, P>,
    plan: &Plan,
    record: &Record,
    stocked: Option<&Stocked>,
    beginning: Option<&Beginning>,
) -> Audited {
    let books = context.books;
    let mut tally = Tally {
        plan,
        stocked,
        stock: None,
        on_sale: None,
        units: vec![Units::default(); plan.items.len()],
        offenders: BTreeMap::new(),
        oversold: Offenders::default(),
        evidence: None,
        ledger: LedgerReport::default(),
    };
    tally.count_answers(context);
    context.moment.stage = Stage::Draining;
    context.moment.orders_all = tally.ledger.acknowledged;
    let mut looked_at = 0;
    let mut topics = None;
    let trouble = match crate::drain::drain(context, plan.drain_timeout).await {
        Err(reason) => Some(reason),
        Ok(drained) => {
            tally.ledger.drain_ms = drained.took.as_millis() as u64;
            let read = beginning.map(|beginning| read_topics(beginning, plan, &drained));
            topics = read.map(|read| read.map(|evidence| tally.evidence = Some(evidence)));
            look(context, &mut tally, &drained, &mut looked_at).await.err()
        }
    };
    if let Some(twice) = Some(books.acknowledged_twice()).filter(|twice| twice.count > 0) {
        tally.offenders.insert(Rule::AcknowledgedOnce, twice);
    }
    tally.name_offences(context);
    tally.count_items(record);
    Audited { ledger: tally.ledger, looked_at, trouble, topics }
}

/// Reads the topics, again while a dead letter is missing: it is written after the final status, and a Kafka that has just
/// recovered takes it late.
fn read_topics(beginning: &Beginning, plan: &Plan, drained: &Drained) -> Result<Evidence, String> {
    let deadline = Instant::now() + LETTERS_WAIT_MAX;
    loop {
        let evidence = beginning.read(plan)?;
        let is_missing = |&sequence: &u64| {
            wants_letter(Some(drained.ends.get(sequence))) && !evidence.has_letter(sequence)
        };
        if Instant::now() >= deadline || !(0..drained.below).any(|sequence| is_missing(&sequence)) {
            return Ok(evidence);
        }
        thread::sleep(LETTERS_INTERVAL);
    }
}

async fn look<P: Progress>(
    context: &mut AuditContext<'_, P>,
    tally: &mut Tally<'_>,
    drained: &Drained,
    looked_at: &mut u64,
) -> Result<(), String> {
    let buyers = context.books.buyers();
    context.moment.stage = Stage::Auditing;
    context.moment.orders_all = buyers;
    tally.note_stock(context.reader.books(&tally.plan.items).await?);
    let mut next = 0;
    while next < buyers && !context.is_interrupted() {
        let to = (next + IDS_MAX as u64).min(buyers);
        let sequences: Vec<u64> = (next..to).filter(|&sequence| context.books.has(sequence)).collect();
        let statuses = context.statuses(&sequences).await?;
        for (&sequence, &status) in sequences.iter().zip(&statuses) {
            tally.judge(context, sequence, status, drained);
        }
        *looked_at += sequences.len() as u64;
        next = to;
        context.show(to);
    }
    Ok(())
}

impl Tally<'_> {
    fn note_stock(&mut self, stock: Option<StockBooks>) {
        self.ledger.stock_read_unix_ms = stock.is_some().then(clock::unix_ms);
        self.on_sale = self.stocked.zip(stock.as_ref()).map(|(stocked, stock)| {
            stocked.seeded.iter().zip(stocked.restocked(stock)).map(|(seeded, more)| seeded + more).collect()
        });
        self.stock = stock;
    }

    fn count_answers<P>(&mut self, context: &AuditContext<'_, P>) {
        for sequence in 0..context.books.buyers() {
            let answers = context.books.get(sequence);
            self.ledger.orders += u64::from(!answers.nothing());
            if answers.acknowledged() {
                self.ledger.acknowledged += 1;
            } else if answers.indeterminate() {
                self.ledger.indeterminate += 1;
            } else if answers.refused() {
                self.ledger.refused += 1;
            }
        }
    }

    fn judge<P>(
        &mut self,
        context: &AuditContext<'_, P>,
        sequence: u64,
        status: Option<Status>,
        drained: &Drained,
    ) {
        let answers = context.books.get(sequence);
        let mut broken = broken_rule(answers, status);
        if answers.acknowledged() && sequence < drained.below && status != Some(drained.ends.get(sequence)) {
            broken = Some(Rule::EndsStay);
        }
        if broken == Some(Rule::AcknowledgedEnds) {
            self.ledger.unfinished += 1;
            let is_pending = status == Some(Status::Pending);
            let is_recorded = self.evidence.as_ref().is_some_and(|evidence| evidence.has_record(sequence));
            self.ledger.pending += u64::from(is_pending);
            self.ledger.pending_recorded += u64::from(is_pending && is_recorded);
        }
        let of_topics = self.evidence.iter().flat_map(|evidence| {
            let (has_record, has_letter) = (evidence.has_record(sequence), evidence.has_letter(sequence));
            broken_topic_rules(answers, status, has_record, has_letter)
        });
        for rule in broken.into_iter().chain(of_topics) {
            self.offenders.entry(rule).or_default().push(sequence);
        }
        let Some(end) = status.filter(|status| status.is_end()) else { return };
        *self.ledger.ends.entry(end.word()).or_default() += 1;
        let want = context.workload.want(sequence);
        let units = &mut self.units[want.item];
        match end {
            Status::Completed => {
                units.sold += u64::from(want.amount);
                if self.on_sale.as_ref().is_some_and(|on_sale| units.sold as i64 > on_sale[want.item]) {
                    self.oversold.push(sequence);
                }
            }
            Status::FailedPayment => units.refunded += u64::from(want.amount),
            Status::FailedSoldOut => units.sold_out_ends += 1,
            Status::FailedUnknownItem | Status::Pending => {}
        }
    }

    fn name_offences<P>(&mut self, context: &AuditContext<'_, P>) {
        let offence = |rule: &'static str, offenders: &Offenders| Offence {
            rule,
            count: offenders.count,
            request_ids: offenders
                .sequences
                .iter()
                .map(|&sequence| context.workload.request_id(sequence))
                .collect(),
        };
        for (rule, offenders) in &self.offenders {
            self.ledger.offences.push(offence(rule.name(), offenders));
        }
        if self.oversold.count > 0 {
            self.ledger.offences.push(offence(NO_OVERSELL, &self.oversold));
        }
    }

    fn count_items(&mut self, record: &Record) {
        let Some(stocked) = self.stocked else { return };
        let stock = self.stock.as_ref();
        let restocked = stock.map(|stock| stocked.restocked(stock));
        for (index, item) in self.plan.items.iter().enumerate() {
            let units = &self.units[index];
            self.ledger.items.push(ItemReport {
                item_id: item.id.clone(),
                seeded: stocked.seeded[index],
                restocked: restocked.as_ref().map_or(0, |restocked| restocked[index]),
                brought_in: stock.and_then(|stock| stock.brought_in[index]),
                left: stock.and_then(|stock| stock.left[index]),
                sold: units.sold,
                refunded: units.refunded,
                sold_out_refusals: units.sold_out_ends + record.sold_out[index],
                // The samples are still being taken; filled in when they end.
                least_seen: None,
            });
        }
    }
}
