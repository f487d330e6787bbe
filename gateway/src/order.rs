//! The road of an order: every branch it can take is in [`place`], top to bottom; the stations are leaves.

use std::ffi::CStr;
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use queue::{Delivery, OrderRecord, SendRefused};
use shard::dependency::Reason;
use store::{Admission, Admit, Answer, Command, Retract, Store, StoreError, StoreSteps};
use wire::content::Unsupported;
use wire::order_json::BadOrder;

use crate::breaker::{Permit, Trial};
use crate::core::Core;
use crate::metrics::Counter;
use crate::sequences::Sequence;

/// An order that keeps the rules, with what travels beside it. Its texts lie in the connection's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The buyer.
    pub user_id: &'a str,
    /// The item.
    pub item_id: &'a str,
    /// Units.
    pub amount: u32,
    /// The buyer's name for this order.
    pub request_id: &'a str,
    /// Given by the buyer or by us.
    pub correlation_id: &'a str,
    /// W3C trace context, when it was given.
    pub traceparent: Option<&'a str>,
    /// When its last byte was read.
    pub began: Instant,
}

/// What became of an order. `reply.rs` alone says what each means to the buyer and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Queued,
    /// The body is wrong.
    Invalid(BadOrder),
    /// The body is not JSON or is encoded: it was not looked into.
    Unsupported(Unsupported),
    /// The id is taken by the same order.
    Duplicate {
        /// Of the first; empty when no longer known.
        correlation_id: String,
    },
    /// The id is taken by another order.
    Mismatch,
    /// Nothing left, and we know it.
    SoldOut,
    /// Over the user's limit.
    Limited {
        /// Until the next is possible.
        wait: Duration,
    },
    /// Too much on the road, or the gateway is going.
    Shed,
    /// The breaker is open.
    BreakerOpen {
        /// Until a probe may pass.
        wait: Duration,
    },
    /// Redis cannot be asked, or did not answer.
    StoreAway,
    /// Kafka surely does not have it; the id is free again.
    NotPublished,
    /// Kafka may have it; the id is kept, and a retry publishes it again.
    MaybePublished,
    /// Our own fault.
    Fault,
}

/// Leads one order to its outcome. Never panics on what others send; every await ends by a deadline of the store or
/// of the sweep.
pub async fn place(core: &Rc<Core>, order: &Order<'_>) -> Outcome {
    if core.shared.drain.is_draining() {
        return Outcome::Shed;
    }
    // These cost no round trip and are never shed.
    if core.limits.sold_out_gate && core.sold_out.borrow_mut().is_closed(order.item_id, order.began) {
        return Outcome::SoldOut;
    }
    if let Some(wait) = core.limited.borrow_mut().wait_of(order.user_id, order.began) {
        return Outcome::Limited { wait };
    }
    let Some(_place) = may_enter(core, order.began) else { return Outcome::Shed };
    let probe = match core.shared.breaker.permit(order.began) {
        Ok(permit) => Probe { core, permit, trial: Trial::Unused },
        Err(wait) => return Outcome::BreakerOpen { wait },
    };
    let Some(sequence) = core.sequences.begin() else { return Outcome::Shed };

    let mut accepted_at_ms = core.unix_ms_at(order.began);
    match core.store.admit(admission_of(order, &sequence, accepted_at_ms)).await {
        Ok(Admission::Fresh) => {}
        // Copies of an order carry the time of the first send: it names the fence of all of them.
        Ok(Admission::TakenOver { accepted_at_ms: first_ms }) => accepted_at_ms = first_ms,
        Ok(refusal) => {
            sequence.resolve();
            return refused(core, order, refusal);
        }
        Err(StoreError::Lost) => {
            // It may have been admitted: give it back when Redis answers again, and hold the watermark until then.
            core.retract_later(order.user_id, order.request_id, sequence);
            return Outcome::StoreAway;
        }
        Err(error) => {
            sequence.resolve();
            return not_asked(core, order, &error);
        }
    }

    crate::fault::at("admitted", order.correlation_id);
    let delivery = publish(core, order, accepted_at_ms).await;
    core.shared.dependencies.delivered(delivery);
    match delivery {
        Delivery::Persisted { partition, offset } => {
            probe.settle(Trial::Success);
            if let Some(guard) = &core.shared.guard {
                guard.acknowledged(partition, offset);
            }
            // A process that was stopped meanwhile: another send of the order may have taken over and been acknowledged.
            if order.began.elapsed() > core.limits.publish_timeout {
                suspend(core, order, &sequence).await;
                // Kafka has it: where the suspension is lost, a second send may be told that it is a duplicate.
                sequence.resolve();
                return Outcome::MaybePublished;
            }
            sequence.resolve();
            Outcome::Queued
        }
        // Refused: the client cannot take it now, because it does not know the topic or partition.
        Delivery::NotPersisted { .. } | Delivery::Refused(SendRefused::TooLarge | SendRefused::Other(_)) => {
            probe.settle(Trial::Failure);
            give_back(core, order, sequence).await;
            Outcome::NotPublished
        }
        Delivery::PossiblyPersisted { .. } => {
            probe.settle(Trial::Failure);
            if suspend(core, order, &sequence).await {
                sequence.resolve();
            }
            // Else it is dropped unresolved: its owner ends, and the id can be taken over after PUBLISH_TIMEOUT.
            Outcome::MaybePublished
        }
        Delivery::Refused(SendRefused::QueueFull) => {
            give_back(core, order, sequence).await;
            Outcome::Shed
        }
    }
}

/// Reserves an in-flight slot, unless all are taken, one more order would be answered late, the process was stopped just
/// now, or the embedded broker would drop records.
fn may_enter(core: &Rc<Core>, at: Instant) -> Option<crate::core::Place> {
    if core.is_suspended(at) || core.shared.guard.as_ref().is_some_and(|guard| !guard.has_room()) {
        return None;
    }
    if !core.overload.admits(core.in_flight.get()) {
        core.count(Counter::ShedForDelay);
        return None;
    }
    core.enter()
}

/// A breaker's permit that is given back unused unless it was settled.
struct Probe<'a> {
    core: &'a Core,
    permit: Permit,
    trial: Trial,
}

impl Probe<'_> {
    fn settle(mut self, trial: Trial) {
        self.trial = trial;
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // The clock is only looked at when a failure may open the breaker: the accepted path does not need it.
        let now = if self.trial == Trial::Failure { Instant::now() } else { self.core.shared.started };
        self.core.shared.breaker.settle(self.permit, self.trial, now);
    }
}

fn admission_of<'a>(order: &Order<'a>, sequence: &'a Sequence, accepted_at_ms: u64) -> Admit<'a> {
    Admit {
        user_id: order.user_id,
        request_id: order.request_id,
        fingerprint: wire::order::fingerprint(order.user_id, order.item_id, order.amount),
        correlation_id: order.correlation_id,
        owner: sequence.owner(),
        sequence: sequence.number(),
        accepted_at_ms,
    }
}

fn refused(core: &Core, order: &Order<'_>, admission: Admission) -> Outcome {
    match admission {
        Admission::Duplicate { correlation_id } => Outcome::Duplicate { correlation_id },
        Admission::Mismatch => Outcome::Mismatch,
        Admission::Limited { retry_after_ms } => {
            let wait = Duration::from_millis(retry_after_ms);
            core.limited.borrow_mut().refuse(order.user_id, wait, Instant::now());
            Outcome::Limited { wait }
        }
        // Not refusals; `place` goes on with them.
        Admission::Fresh | Admission::TakenOver { .. } => Outcome::Fault,
    }
}

fn not_asked(core: &Core, order: &Order<'_>, error: &StoreError) -> Outcome {
    match error {
        StoreError::Full => Outcome::Shed,
        StoreError::Away | StoreError::Lost => Outcome::StoreAway,
        StoreError::Refused(reason) => {
            core.shared.dependencies.redis.count(Reason::Other);
            core.log.line(shard::log::Level::Error, "admit_refused", reason, |line| {
                line.text("correlation_id", order.correlation_id).text("request_id", order.request_id);
            });
            Outcome::StoreAway
        }
    }
}

const CORRELATION_ID: &CStr = c"correlation_id";
const REQUEST_ID: &CStr = c"request_id";
const TRACEPARENT: &CStr = c"traceparent";

async fn publish(core: &Core, order: &Order<'_>, accepted_at_ms: u64) -> Delivery {
    let mut value = core.take_buffer();
    let sent_at_ms = core.unix_ms_at(order.began);
    encode(order, accepted_at_ms, &mut value);
    let record = OrderRecord {
        key: order.user_id.as_bytes(),
        value: &value,
        headers: [
            Some((CORRELATION_ID, order.correlation_id.as_bytes())),
            Some((REQUEST_ID, order.request_id.as_bytes())),
            order.traceparent.map(|traceparent| (TRACEPARENT, traceparent.as_bytes())),
        ],
        timestamp_ms: sent_at_ms,
    };
    let held = core.publisher.hold(&record, order.began, core.in_flight.get());
    // The record was copied: the buffer is free for the next order while this one waits.
    core.give_buffer(value);
    match held {
        Ok(wait) => wait.await,
        Err(refused) => Delivery::Refused(refused),
    }
}

/// The value of the record (contract, "Kafka"); the ids are of alphabets that need no escape.
pub(crate) fn encode(order: &Order<'_>, accepted_at_ms: u64, value: &mut Vec<u8>) {
    value.extend_from_slice(b"{\"user_id\":\"");
    value.extend_from_slice(order.user_id.as_bytes());
    value.extend_from_slice(b"\",\"item_id\":\"");
    value.extend_from_slice(order.item_id.as_bytes());
    // Writing to a vector cannot fail.
    let _ = write!(value, "\",\"amount\":{},\"request_id\":\"", order.amount);
    wire::order::escape_json_into(value, order.request_id);
    value.extend_from_slice(b"\",\"correlation_id\":\"");
    value.extend_from_slice(order.correlation_id.as_bytes());
    let _ = write!(value, "\",\"accepted_at_ms\":{accepted_at_ms}}}");
}

/// Frees the id and the user's admission: the same id may be tried again and is then a first.
async fn give_back(core: &Core, order: &Order<'_>, sequence: Sequence) {
    core.limited.borrow_mut().forget(order.user_id);
    let released = core.store.ask(&Command::Release(retract_of(order, &sequence))).await;
    settle_retract(core, order, sequence, &released);
}

/// Keeps the id for a retry that publishes again at once; whether Redis confirmed it.
async fn suspend(core: &Core, order: &Order<'_>, sequence: &Sequence) -> bool {
    core.store.ask(&Command::Suspend(retract_of(order, sequence))).await.is_ok()
}

fn settle_retract(core: &Core, order: &Order<'_>, sequence: Sequence, released: &Result<Answer, StoreError>) {
    match released {
        Ok(_) | Err(StoreError::Refused(_)) => sequence.resolve(),
        Err(_) => core.retract_later(order.user_id, order.request_id, sequence),
    }
}

fn retract_of<'a>(order: &Order<'a>, sequence: &'a Sequence) -> Retract<'a> {
    Retract {
        user_id: order.user_id,
        request_id: order.request_id,
        owner: sequence.owner(),
        sequence: sequence.number(),
    }
}
