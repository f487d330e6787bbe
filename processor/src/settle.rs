//! The end of paid and unpaid orders, for many in one flush.

use store::{Answer, Command, Ending, Settle};

use crate::core::Core;
use crate::pay::Paid;
use crate::read::Work;
use crate::reserve::ask_until_answered;

/// Settles what was paid and refunds what was not; in order, the error is Redis's refusal of that one order.
pub(crate) async fn settle<'a>(core: &Core, paid: &'a [(Work, Paid)]) -> Vec<Result<Ending, String>> {
    let command = |work: &'a Work, paid: Paid| {
        let settle = Settle {
            request_id: &work.request_id,
            item_id: &work.item_id,
            attempt: work.attempt,
            origin: work.origin,
        };
        match paid {
            Paid::Yes => Command::Settle(settle),
            Paid::No => Command::Refund(settle),
        }
    };
    let commands: Vec<Command<'_>> = paid.iter().map(|(work, paid)| command(work, *paid)).collect();
    ask_until_answered(core, &commands)
        .await
        .into_iter()
        .map(|answer| match answer {
            Ok(Answer::Ended(ending)) => Ok(ending),
            Ok(other) => Err(format!("unexpected answer {other:?}")),
            Err(reason) => Err(reason),
        })
        .collect()
}
