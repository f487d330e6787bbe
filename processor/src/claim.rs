//! Claims request ids, to find the fence bucket of an order whose record may not tell it, and imports what version 0.1 stored.

use store::{Answer, Claim, Claimed, Command, Import};

use crate::core::Core;
use crate::read::Work;
use crate::reserve::ask_until_answered;

/// Returns the orders to reserve, and the rejected ones: those that version 0.1 has finished, those whose id belongs to another
/// order, and (with a reason) those that Redis refuses.
pub(crate) async fn claim(core: &Core, works: Vec<Work>) -> (Vec<Work>, Vec<(Work, Option<String>)>) {
    let fences_since_ms = core.shared.fences_since_ms().await;
    let needs_claim = |work: &Work| {
        // The record does not say when its order was accepted.
        !work.has_accepted_at
            // A replay: its status may have expired, and the id may belong to another order now.
            || work.attempt > 0
            // Redis may have lost the id, and a gateway may have taken it again at another time.
            || core.shared.losses_of_redis.may_lack_id(work.accepted_at_ms)
            // Version 0.1: each send of an order carries its own time.
            || work.written_at_ms < fences_since_ms
    };
    let (to_claim, ours): (Vec<Work>, Vec<Work>) = works.into_iter().partition(needs_claim);
    if to_claim.is_empty() {
        return (ours, Vec::new());
    }
    let (ours, rejected) = claim_ids(core, to_claim, ours).await;
    import(core, &ours, fences_since_ms).await;
    (ours, rejected)
}

/// The first to claim an id sets its time of acceptance, so that all copies of the order find the same fence.
async fn claim_ids(
    core: &Core,
    to_claim: Vec<Work>,
    mut ours: Vec<Work>,
) -> (Vec<Work>, Vec<(Work, Option<String>)>) {
    let commands: Vec<Command<'_>> = to_claim.iter().map(|work| Command::Claim(claim_of(work))).collect();
    let answers = ask_until_answered(core, &commands).await;
    let mut rejected = Vec::new();
    for (mut work, answered) in to_claim.into_iter().zip(answers) {
        match answered.answer {
            Ok(Answer::Claimed(Claimed::At { accepted_at_ms })) => {
                work.accepted_at_ms = accepted_at_ms;
                work.written_at_ms = work.written_at_ms.min(accepted_at_ms);
                ours.push(work);
            }
            Ok(Answer::Claimed(Claimed::Ended | Claimed::Conflict)) => rejected.push((work, None)),
            Ok(other) => rejected.push((work, Some(format!("unexpected answer {other:?}")))),
            Err(reason) => rejected.push((work, Some(reason))),
        }
    }
    ours.sort_by_key(|work| work.index);
    (ours, rejected)
}

fn claim_of(work: &Work) -> Claim<'_> {
    Claim {
        request_id: &work.request_id,
        fingerprint: work.fingerprint(),
        correlation_id: &work.correlation_id,
        accepted_at_ms: work.accepted_at_ms,
    }
}

fn import_of(work: &Work) -> Import<'_> {
    Import { request_id: &work.request_id, item_id: &work.item_id, accepted_at_ms: work.accepted_at_ms }
}

/// Imports what version 0.1 stored for those of these orders that were written before `fences_since_ms`.
async fn import(core: &Core, works: &[Work], fences_since_ms: u64) {
    let former = works.iter().filter(|work| work.written_at_ms < fences_since_ms);
    let commands: Vec<Command<'_>> = former.map(|work| Command::Import(import_of(work))).collect();
    if !commands.is_empty() {
        // A refusal because of the fence comes again at the reservation, where a dead letter follows. A key of 0.1 of the
        // wrong type is ignored: the order counts as new.
        let _ = ask_until_answered(core, &commands).await;
    }
}
