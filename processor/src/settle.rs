//! The end of paid and unpaid orders, for many in one flush.

use store::{Answer, Command, Ending, Settle};

use crate::core::Core;
use crate::pay::Paid;
use crate::read::Work;
use crate::reserve::{Answered, ask_until_answered};

/// Settles what was paid and refunds what was not, in order.
pub(crate) async fn settle<'a>(core: &Core, paid: &'a [(Work, Paid)]) -> Vec<Answered<Ending>> {
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
        Answer::Ended(ending) => Ok(ending),
        other => Err(format!("unexpected answer {other:?}")),
    };
    ask_until_answered(core, &commands).await.into_iter().map(|answered| answered.and_then(picked)).collect()
}
