//! Settles paid orders and refunds unpaid ones, many in one flush.

use store::{Answer, Command, Settle, Settlement};

use crate::core::Core;
use crate::pay::Paid;
use crate::read::Work;
use crate::reserve::{Answered, ask_until_answered};

/// Settles paid orders and refunds the others. Results are in the same order.
pub(crate) async fn settle<'a>(core: &Core, paid: &'a [(Work, Paid)]) -> Vec<Answered<Settlement>> {
    let command = |work: &'a Work, paid: Paid| {
        let settle = Settle {
            request_id: &work.request_id,
            item_id: &work.item_id,
            accepted_at_ms: work.accepted_at_ms,
            attempt: work.attempt,
            origin: work.origin,
        };
        match paid {
            Paid::Yes => Command::Settle(settle),
            Paid::No => Command::Refund(settle),
        }
    };
    let commands: Vec<Command<'_>> = paid.iter().map(|(work, paid)| command(work, *paid)).collect();
    let picked = |answer| match answer {
        Answer::Settled(ending) => Ok(ending),
        other => Err(format!("unexpected answer {other:?}")),
    };
    ask_until_answered(core, &commands).await.into_iter().map(|answered| answered.and_then(picked)).collect()
}
