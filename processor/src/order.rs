//! Processes a batch of orders. All branching is in this file; the modules it calls each do one step.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use queue::consumer::Batch;
use shard::clock;
use shard::log::Level;
use store::{Ending, Reservation, is_replayable};
use wire::names::{DeadLetterReason, Status};

use crate::claim::claim;
use crate::core::Core;
use crate::crash::{self, Point};
use crate::dead_letter::{Buried, bury};
use crate::metrics::{Counter, END_TO_END, PROCESSING_DURATION};
use crate::pay::{Paid, PaymentGateway as _, collect};
use crate::read::{Work, correlation_id, read};
use crate::reserve::{Answered, reserve};
use crate::settle::settle;
use crate::status::write_statuses;

/// How the processing of an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has this status now, made by us.
    Made(Status),
    /// Nothing to do: the order already had its final status, another copy of it makes it, or the id belongs to another order.
    Before,
    /// Redis refused a step: the order keeps the status it had and becomes a dead letter.
    Buried,
}

/// An order past reservation and payment, and what is still to be written for it.
#[derive(Debug)]
struct Decided {
    work: Work,
    end: End,
    /// The final status of the fence and its attempt: written again when it had been decided before, because the processor
    /// that decided it may have crashed before it wrote it.
    status: Option<(Status, u32)>,
    letter: Option<(DeadLetterReason, String)>,
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
            Err(reason) => drop(monoio::spawn(poison(Rc::clone(&core), Rc::clone(&batch), index, reason))),
        }
    }
    crash::at(Point::Taken);
    let (works, others) = claim(&core, works).await;
    let reservations = reserve(&core, &works).await;
    crash::at(Point::Reserved);
    let mut paid = Vec::with_capacity(works.len());
    let mut decided: Vec<Decided> = others
        .into_iter()
        .map(|(work, refusal)| match refusal {
            Some(reason) => refused(work, reason),
            None => unchanged(work, None),
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
            Ok(Reservation::SoldOut { .. }) => decided.push(made(work, Status::FailedSoldOut, None)),
            Ok(Reservation::UnknownItem) => {
                let letter = (DeadLetterReason::UnknownItem, "the stock of the item is unknown".to_owned());
                decided.push(made(work, Status::FailedUnknownItem, Some(letter)));
            }
            Ok(Reservation::EndedBefore { status, attempt, same_origin }) => {
                let status = Some((status, attempt)).filter(|(status, _)| status.is_end());
                decided.push(decided_before(work, status, same_origin, reserved.was_asked_before));
            }
            Err(reason) => decided.push(refused(work, reason)),
        }
    }
    close(&core, &batch, paid, decided).await;
}

/// Settles paid orders and refunds unpaid ones, then writes the results of all.
async fn close(core: &Rc<Core>, batch: &Rc<Batch>, paid: Vec<(Work, Paid)>, mut decided: Vec<Decided>) {
    if !paid.is_empty() {
        crash::at(Point::Paid);
        let endings = settle(core, &paid).await;
        crash::at(Point::Settled);
        let settled = paid.into_iter().zip(endings).map(|((work, paid), ending)| settled(work, paid, ending));
        decided.extend(settled);
    }
    if !decided.is_empty() {
        conclude(core, batch, decided).await;
    }
}

fn settled(work: Work, paid: Paid, ending: Answered<Ending>) -> Decided {
    match (paid, ending.answer) {
        // Also `made` if our first request was executed and only its reply was lost. A refund needs no such check: the store
        // reports `applied` to the record that made it.
        (Paid::Yes, Ok(made_now))
            if made_now.applied
                || (ending.was_asked_before && made_now.status == Some(Status::Completed)) =>
        {
            made(work, Status::Completed, None)
        }
        (Paid::No, Ok(Ending { applied: true, .. })) => {
            let letter = (DeadLetterReason::PaymentTimeout, "payment failed or timed out".to_owned());
            made(work, Status::FailedPayment, Some(letter))
        }
        (_, Ok(Ending { status, attempt, .. })) => {
            unchanged(work, status.filter(|status| status.is_end()).map(|status| (status, attempt)))
        }
        (_, Err(reason)) => refused(work, reason),
    }
}

fn made(work: Work, status: Status, letter: Option<(DeadLetterReason, String)>) -> Decided {
    let attempt = work.attempt;
    Decided { work, end: End::Made(status), status: Some((status, attempt)), letter }
}

fn unchanged(work: Work, status: Option<(Status, u32)>) -> Decided {
    Decided { work, end: End::Before, status, letter: None }
}

fn refused(work: Work, reason: String) -> Decided {
    Decided { work, end: End::Buried, status: None, letter: Some((DeadLetterReason::RedisFailure, reason)) }
}

/// The fence had a final state before this reservation.
fn decided_before(
    work: Work,
    status: Option<(Status, u32)>,
    same_origin: bool,
    was_asked_before: bool,
) -> Decided {
    let mut decided = unchanged(work, status);
    let Some((status, _)) = status else { return decided };
    // It was decided by this very record, but the dead letter may not have been written.
    if same_origin && is_replayable(status) {
        decided.letter = Some((
            reason_of(status),
            "redelivered: the order had already failed, but its dead letter may be missing".to_owned(),
        ));
    }
    // The answer to our own first asking was lost.
    if was_asked_before && (decided.letter.is_some() || status == Status::FailedSoldOut) {
        decided.end = End::Made(status);
    }
    decided
}

/// Status, dead letter, finish: in this order, so that whoever sees one of them can rely on those before.
async fn conclude(core: &Rc<Core>, batch: &Rc<Batch>, mut decided: Vec<Decided>) {
    let statuses: Vec<(&Work, Status, u32)> = decided
        .iter()
        .filter_map(|decided| decided.status.map(|(status, attempt)| (&decided.work, status, attempt)))
        .collect();
    let mut written = write_statuses(core, &statuses).await.into_iter();
    for decided in decided.iter_mut().filter(|decided| decided.status.is_some()) {
        if let Some(Err(reason)) = written.next() {
            decided.letter.get_or_insert((DeadLetterReason::RedisFailure, reason));
        }
    }
    crash::at(Point::Written);
    let mut ended = Vec::with_capacity(decided.len());
    for Decided { work, end, letter, .. } in decided {
        match letter {
            None => ended.push((work, end)),
            Some(letter) => {
                drop(monoio::spawn(bury_and_finish(Rc::clone(core), Rc::clone(batch), work, letter, end)));
            }
        }
    }
    finish(core, batch, &ended);
}

/// The result of a payment that returns at once; `None` if it takes time, or was declined and may be retried after a pause.
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
        Some(paid) => close(&core, &batch, vec![(work, paid)], Vec::new()).await,
        // Its units stay held by this attempt: whoever gets the record next goes on from there.
        None => batch.lease().abandon(1),
    }
}

async fn poison(core: Rc<Core>, batch: Rc<Batch>, index: usize, reason: String) {
    let buried = Buried { index, work: None, correlation_id: &correlation_id(&batch, index, None) };
    bury(&core, &batch, buried, DeadLetterReason::InvalidOrderFormat, &reason).await;
    core.count(Counter::Processed);
    core.count(Counter::Failed);
    batch.lease().finish(&[batch.records()[index].offset]);
}

async fn bury_and_finish(
    core: Rc<Core>,
    batch: Rc<Batch>,
    work: Work,
    letter: (DeadLetterReason, String),
    end: End,
) {
    let buried = Buried { index: work.index, work: Some(&work), correlation_id: &work.correlation_id };
    bury(&core, &batch, buried, letter.0, &letter.1).await;
    crash::at(Point::Buried);
    finish(&core, &batch, &[(work, end)]);
}

fn reason_of(status: Status) -> DeadLetterReason {
    if status == Status::FailedPayment {
        DeadLetterReason::PaymentTimeout
    } else {
        DeadLetterReason::UnknownItem
    }
}

/// Counts, logs and finishes: from here on the offsets may be committed.
fn finish(core: &Core, batch: &Batch, ended: &[(Work, End)]) {
    if ended.is_empty() {
        return;
    }
    let duration = Instant::now().saturating_duration_since(batch.taken());
    let now_ms = clock::unix_ms();
    for (work, end) in ended {
        let (counter, word) = match end {
            End::Made(Status::Completed) => (Counter::Success, Status::Completed.word()),
            End::Made(Status::FailedSoldOut) => (Counter::SoldOut, Status::FailedSoldOut.word()),
            End::Made(status) => (Counter::Failed, status.word()),
            End::Before => (Counter::Redelivered, "unchanged"),
            End::Buried => (Counter::Failed, "dead letter"),
        };
        core.count(Counter::Processed);
        core.count(counter);
        core.cells().durations[PROCESSING_DURATION].observe_us(duration.as_micros() as u64);
        // A record without a time, or from a clock ahead of ours, says nothing.
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
    let offsets: Vec<i64> = ended.iter().map(|(work, _)| work.origin.offset).collect();
    batch.lease().finish(&offsets);
    crash::at(Point::Finished);
}
