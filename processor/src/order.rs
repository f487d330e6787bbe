//! Processes a batch of orders. All branching is in this file; the modules it calls each do one step.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use queue::consumer::Batch;
use shard::clock;
use shard::log::Level;
use store::{Reservation, Settlement, is_replayable};
use wire::names::{DeadLetterReason, Status};

use crate::claim::claim;
use crate::core::Core;
use crate::crash::{self, Point};
use crate::dead_letter::{FailedRecord, write_dead_letter};
use crate::metrics::{Counter, END_TO_END, PROCESSING_DURATION};
use crate::pay::{Paid, PaymentGateway as _, collect};
use crate::read::{Work, correlation_id, read};
use crate::reserve::{Answered, reserve};
use crate::settle::settle;
use crate::status::write_statuses;

/// How the processing of an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// This processing gave the order this final status.
    New(Status),
    /// Nothing to do: the order already had its final status, another copy of it is being processed, or the
    /// id belongs to another order.
    Unchanged,
    /// Redis refused a step: the order keeps its status and becomes a dead letter.
    Refused,
}

/// An order whose result is decided, with the status and dead letter still to be written.
#[derive(Debug)]
struct Decided {
    work: Work,
    outcome: Outcome,
    /// The final status of the fence and the attempt that led to it; `None` if the fence is not final or not
    /// known. It is written even if the fence was final before, because the processor that made it final may
    /// have crashed before it wrote the status.
    status: Option<(Status, u32)>,
    dead_letter: Option<(DeadLetterReason, String)>,
}

/// Processes every record of a batch to a final status or a dead letter, then marks it finished.
pub(crate) async fn process(core: Rc<Core>, batch: Batch) {
    let batch = Rc::new(batch);
    if batch.lease().is_ending() {
        batch.lease().abandon(batch.records().len());
        return;
    }
    let mut works = Vec::with_capacity(batch.records().len());
    for index in 0..batch.records().len() {
        match read(&batch, index) {
            Ok(work) => works.push(work),
            Err(reason) => {
                drop(monoio::spawn(dead_letter_poison(Rc::clone(&core), Rc::clone(&batch), index, reason)));
            }
        }
    }
    crash::at(Point::Taken);
    let (works, not_claimed) = claim(&core, works).await;
    let reservations = reserve(&core, &works).await;
    crash::at(Point::Reserved);
    let mut paid = Vec::with_capacity(works.len());
    let mut decided: Vec<Decided> = not_claimed
        .into_iter()
        .map(|(work, refusal)| match refusal {
            Some(reason) => refused(work, reason),
            None => already_decided(work, None),
        })
        .collect();
    for (work, reserved) in works.into_iter().zip(reservations) {
        core.note_item(&work.item_id);
        match reserved.answer {
            Ok(Reservation::Held { .. } | Reservation::HeldAlready) => {
                // A payment that returns at once is settled with its batch; a slower one gets a task of its own, so that it
                // does not delay the rest of the batch.
                match pay_at_once(&core, &work) {
                    Some(answer) => paid.push((work, answer)),
                    None => drop(monoio::spawn(pay_slowly(Rc::clone(&core), Rc::clone(&batch), work))),
                }
            }
            Ok(Reservation::SoldOut { .. }) => decided.push(newly_decided(work, Status::FailedSoldOut, None)),
            Ok(Reservation::UnknownItem) => {
                let dead_letter =
                    (DeadLetterReason::UnknownItem, "the stock of the item is unknown".to_owned());
                decided.push(newly_decided(work, Status::FailedUnknownItem, Some(dead_letter)));
            }
            Ok(Reservation::AlreadyFinal { status, attempt, same_origin }) => {
                let status = Some((status, attempt)).filter(|(status, _)| status.is_final());
                decided.push(decided_by_earlier_delivery(work, status, same_origin, reserved.reply_was_lost));
            }
            Err(reason) => decided.push(refused(work, reason)),
        }
    }
    settle_and_write(&core, &batch, paid, decided).await;
}

/// Settles paid orders and refunds unpaid ones, then writes the results of all.
async fn settle_and_write(
    core: &Rc<Core>,
    batch: &Rc<Batch>,
    paid: Vec<(Work, Paid)>,
    mut decided: Vec<Decided>,
) {
    if !paid.is_empty() {
        crash::at(Point::Paid);
        let endings = settle(core, &paid).await;
        crash::at(Point::Settled);
        let settled = paid.into_iter().zip(endings).map(|((work, paid), ending)| settled(work, paid, ending));
        decided.extend(settled);
    }
    if !decided.is_empty() {
        write_results(core, batch, decided).await;
    }
}

fn settled(work: Work, paid: Paid, ending: Answered<Settlement>) -> Decided {
    match (paid, ending.answer) {
        // The order is also newly completed if our first request took effect and only its reply was lost. A
        // refund needs no such check, because the store answers `applied` to every repetition from the same
        // record.
        (Paid::Yes, Ok(made_now))
            if made_now.applied || (ending.reply_was_lost && made_now.status == Some(Status::Completed)) =>
        {
            newly_decided(work, Status::Completed, None)
        }
        (Paid::No, Ok(Settlement { applied: true, .. })) => {
            let dead_letter = (DeadLetterReason::PaymentTimeout, "payment failed or timed out".to_owned());
            newly_decided(work, Status::FailedPayment, Some(dead_letter))
        }
        (_, Ok(Settlement { status, attempt, .. })) => {
            already_decided(work, status.filter(|status| status.is_final()).map(|status| (status, attempt)))
        }
        (_, Err(reason)) => refused(work, reason),
    }
}

fn newly_decided(work: Work, status: Status, dead_letter: Option<(DeadLetterReason, String)>) -> Decided {
    let attempt = work.attempt;
    Decided { work, outcome: Outcome::New(status), status: Some((status, attempt)), dead_letter }
}

fn already_decided(work: Work, status: Option<(Status, u32)>) -> Decided {
    Decided { work, outcome: Outcome::Unchanged, status, dead_letter: None }
}

fn refused(work: Work, reason: String) -> Decided {
    Decided {
        work,
        outcome: Outcome::Refused,
        status: None,
        dead_letter: Some((DeadLetterReason::RedisFailure, reason)),
    }
}

/// The result of an order whose fence was already final when it was to be reserved: an earlier delivery or
/// another record of the order decided it, or our own first request, whose reply was lost.
fn decided_by_earlier_delivery(
    work: Work,
    status: Option<(Status, u32)>,
    same_origin: bool,
    reply_was_lost: bool,
) -> Decided {
    let mut decided = already_decided(work, status);
    let Some((status, _)) = status else { return decided };
    // This same record decided it, but its dead letter may not have been written.
    if same_origin && is_replayable(status) {
        decided.dead_letter = Some((
            reason_of(status),
            "redelivered: the order had already failed, but its dead letter may be missing".to_owned(),
        ));
    }
    // Our own first request decided it, and its reply was lost.
    if reply_was_lost && (decided.dead_letter.is_some() || status == Status::FailedSoldOut) {
        decided.outcome = Outcome::New(status);
    }
    decided
}

/// Writes the statuses, then the dead letters, then finishes the records. In this order, so that anyone who
/// sees one of the steps can rely on the earlier ones.
async fn write_results(core: &Rc<Core>, batch: &Rc<Batch>, mut decided: Vec<Decided>) {
    let statuses: Vec<(&Work, Status, u32)> = decided
        .iter()
        .filter_map(|decided| decided.status.map(|(status, attempt)| (&decided.work, status, attempt)))
        .collect();
    let mut written = write_statuses(core, &statuses).await.into_iter();
    for decided in decided.iter_mut().filter(|decided| decided.status.is_some()) {
        if let Some(Err(reason)) = written.next() {
            decided.dead_letter.get_or_insert((DeadLetterReason::RedisFailure, reason));
        }
    }
    crash::at(Point::Written);
    let mut finished = Vec::with_capacity(decided.len());
    for Decided { work, outcome, dead_letter, .. } in decided {
        match dead_letter {
            None => finished.push((work, outcome)),
            Some(dead_letter) => {
                drop(monoio::spawn(dead_letter_and_finish(
                    Rc::clone(core),
                    Rc::clone(batch),
                    work,
                    dead_letter,
                    outcome,
                )));
            }
        }
    }
    count_and_finish(core, batch, &finished);
}

/// The result of a payment that returns at once; `None` if it takes time, or was declined and may be retried after a
/// pause. [`pay_slowly`] then starts again with trial 0; a repeated trial charges nothing twice.
fn pay_at_once(core: &Core, work: &Work) -> Option<Paid> {
    if !core.payments.is_instant() {
        return None;
    }
    let charge = pin!(core.payments.charge(&work.request_id, work.amount, work.attempt, 0));
    match charge.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Paid::No) if core.charge_limits.trials_max > 1 => None,
        Poll::Ready(paid) => Some(paid),
        Poll::Pending => None,
    }
}

async fn pay_slowly(core: Rc<Core>, batch: Rc<Batch>, work: Work) {
    let order = (work.request_id.as_str(), work.amount, work.attempt);
    let is_ours = || !batch.lease().is_ending();
    match collect(&core.payments, &core.payment_permits, core.charge_limits, order, is_ours).await {
        Some(paid) => settle_and_write(&core, &batch, vec![(work, paid)], Vec::new()).await,
        // The units stay held by this attempt; the next owner of the record continues from there.
        None => batch.lease().abandon(1),
    }
}

async fn dead_letter_poison(core: Rc<Core>, batch: Rc<Batch>, index: usize, reason: String) {
    let failed = FailedRecord { index, work: None, correlation_id: &correlation_id(&batch, index, None) };
    write_dead_letter(&core, &batch, failed, DeadLetterReason::InvalidOrderFormat, &reason).await;
    core.count(Counter::Processed);
    core.count(Counter::Failed);
    batch.lease().finish(&[batch.records()[index].offset]);
}

async fn dead_letter_and_finish(
    core: Rc<Core>,
    batch: Rc<Batch>,
    work: Work,
    dead_letter: (DeadLetterReason, String),
    outcome: Outcome,
) {
    let failed = FailedRecord { index: work.index, work: Some(&work), correlation_id: &work.correlation_id };
    write_dead_letter(&core, &batch, failed, dead_letter.0, &dead_letter.1).await;
    crash::at(Point::Buried);
    count_and_finish(&core, &batch, &[(work, outcome)]);
}

fn reason_of(status: Status) -> DeadLetterReason {
    if status == Status::FailedPayment {
        DeadLetterReason::PaymentTimeout
    } else {
        DeadLetterReason::UnknownItem
    }
}

/// Counts and logs the orders and marks their records finished; their offsets may be committed from then on.
fn count_and_finish(core: &Core, batch: &Batch, finished: &[(Work, Outcome)]) {
    if finished.is_empty() {
        return;
    }
    let duration = Instant::now().saturating_duration_since(batch.taken());
    let now_ms = clock::unix_ms();
    for (work, outcome) in finished {
        let (counter, word) = match outcome {
            Outcome::New(Status::Completed) => (Counter::Success, Status::Completed.word()),
            Outcome::New(Status::FailedSoldOut) => (Counter::SoldOut, Status::FailedSoldOut.word()),
            Outcome::New(status) => (Counter::Failed, status.word()),
            Outcome::Unchanged => (Counter::Redelivered, "unchanged"),
            Outcome::Refused => (Counter::Failed, "dead letter"),
        };
        core.count(Counter::Processed);
        core.count(counter);
        core.cells().durations[PROCESSING_DURATION].observe_us(duration.as_micros() as u64);
        // A record without a timestamp, or with one in the future, is not measured.
        let written_ms = batch.records()[work.index].timestamp_ms.and_then(|ms| u64::try_from(ms).ok());
        if let Some(age_ms) = written_ms.and_then(|written_ms| now_ms.checked_sub(written_ms)) {
            core.cells().durations[END_TO_END].observe_us(age_ms * 1000);
        }
        core.log.line(Level::Info, "order_processed", "Order processed", |line| {
            line.text("correlation_id", &work.correlation_id)
                .text("user_id", &work.user_id)
                .text("item_id", &work.item_id)
                .text("request_id", &work.request_id)
                .text("status", word)
                .number("processing_time_ms", duration.as_millis() as u64);
        });
    }
    let offsets: Vec<i64> = finished.iter().map(|(work, _)| work.origin.offset).collect();
    batch.lease().finish(&offsets);
    crash::at(Point::Finished);
}
