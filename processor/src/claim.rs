//! Claims request ids, to find the fence bucket of an order whose record may lack it, and imports state
//! stored by version 0.1.

use store::{Answer, Claim, Claimed, Command, Import};

use crate::core::Core;
use crate::read::Work;
use crate::reserve::ask_until_answered;

/// Returns the orders to reserve and the rejected ones. An order is rejected if version 0.1 has finished it, if its id
/// belongs to another order, or (with a reason) if Redis refuses it.
pub(crate) async fn claim(core: &Core, works: Vec<Work>) -> (Vec<Work>, Vec<(Work, Option<String>)>) {
    let fences_since_ms = core.shared.fences_since_ms().await;
    let needs_claim = |work: &Work| {
        // The record does not say when its order was accepted.
        !work.has_accepted_at
            // A replay: its status may have expired, and the id may belong to another order now.
            || work.attempt > 0
            // Redis may have lost the id, and a gateway may have taken it again at another time.
            || core.shared.redis_losses.may_lack_id(work.accepted_at_ms)
            // Written by version 0.1, in which each send of an order carried its own time.
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

/// The first claim of an id sets its acceptance time, so that all copies of the order find the same fence.
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
            Ok(Answer::Claimed(Claimed::AlreadyFinal | Claimed::Conflict)) => rejected.push((work, None)),
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

/// Imports the state that version 0.1 stored for orders written before `fences_since_ms`.
async fn import(core: &Core, works: &[Work], fences_since_ms: u64) {
    let old = works.iter().filter(|work| work.written_at_ms < fences_since_ms);
    let commands: Vec<Command<'_>> = old.map(|work| Command::Import(import_of(work))).collect();
    if !commands.is_empty() {
        // Errors are ignored. If Redis refuses because of the fence, it also refuses the reservation, which
        // leads to a dead letter. If a key of version 0.1 has the wrong type, the order counts as new.
        let _ = ask_until_answered(core, &commands).await;
    }
}
