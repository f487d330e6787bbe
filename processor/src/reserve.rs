//! Reserves units for a whole batch in one flush.

use store::{Answer, Command, Reservation, Reserve, Store, StoreError, fence_bucket};

use crate::core::{BackOff, Core};
use crate::metrics::Counter;
use crate::read::Work;

/// Returns the result of each reservation, in order. Repeats a command until the store answers; the fence
/// makes repetition harmless.
pub(crate) async fn reserve(core: &Core, works: &[Work]) -> Vec<Answered<Reservation>> {
    let commands: Vec<Command<'_>> = works.iter().map(command).collect();
    let picked = |answer| match answer {
        Answer::Reserved(reservation) => Ok(reservation),
        other => Err(format!("unexpected answer {other:?}")),
    };
    ask_until_answered(core, &commands).await.into_iter().map(|answered| answered.and_then(picked)).collect()
}

fn command(work: &Work) -> Command<'_> {
    Command::Reserve(Reserve {
        request_id: &work.request_id,
        item_id: &work.item_id,
        accepted_at_ms: work.accepted_at_ms,
        amount: work.amount,
        attempt: work.attempt,
        origin: work.origin,
    })
}

/// The store's answer to one command.
#[derive(Debug, Clone)]
pub(crate) struct Answered<T> {
    /// An error means that Redis refused this one order.
    pub(crate) answer: Result<T, String>,
    /// The reply to an earlier try of this command was lost, and that try may have been executed. If the
    /// answer is then "done before", this processor may have done it, and must still do what follows from it
    /// (the dead letter).
    pub(crate) reply_was_lost: bool,
}

impl<T> Answered<T> {
    pub(crate) fn and_then<U>(self, pick: impl FnOnce(T) -> Result<U, String>) -> Answered<U> {
        Answered { answer: self.answer.and_then(pick), reply_was_lost: self.reply_was_lost }
    }
}

/// Sort key: the store executes adjacent commands of the same kind, item and bucket with one script call.
fn script_key<'a>(command: &Command<'a>) -> (u8, &'a str, u64) {
    match *command {
        Command::Reserve(reserve) => (0, reserve.item_id, fence_bucket(reserve.accepted_at_ms)),
        Command::Settle(settle) => (1, settle.item_id, fence_bucket(settle.accepted_at_ms)),
        Command::Refund(refund) => (2, refund.item_id, fence_bucket(refund.accepted_at_ms)),
        _ => (3, "", 0),
    }
}

/// Sends all commands, then repeats those without an answer, with back-off, until each has one.
pub(crate) async fn ask_until_answered(core: &Core, commands: &[Command<'_>]) -> Vec<Answered<Answer>> {
    let mut answers: Vec<Option<Answered<Answer>>> = vec![None; commands.len()];
    let mut reply_was_lost = vec![false; commands.len()];
    let mut back_off = BackOff::default();
    let mut open: Vec<usize> = (0..commands.len()).collect();
    open.sort_by(|&one, &other| script_key(&commands[one]).cmp(&script_key(&commands[other])));
    loop {
        let asked: Vec<Command<'_>> = open.iter().map(|&at| commands[at]).collect();
        let mut still_open = Vec::new();
        let answered = {
            // A batch larger than the limit takes all permits. `acquire_many` fails only on a closed
            // semaphore; this one is never closed.
            let count = asked.len().min(core.store_permits_max) as u32;
            let _permits = core.store_permits.acquire_many(count).await;
            core.store.ask_all(&asked).await
        };
        for (&at, answer) in open.iter().zip(answered) {
            match answer {
                Ok(answer) => {
                    answers[at] = Some(Answered { answer: Ok(answer), reply_was_lost: reply_was_lost[at] });
                }
                Err(StoreError::Refused(reason)) => {
                    answers[at] = Some(Answered { answer: Err(reason), reply_was_lost: reply_was_lost[at] });
                }
                Err(error) => {
                    reply_was_lost[at] |= error == StoreError::Lost;
                    still_open.push(at);
                }
            }
        }
        if still_open.is_empty() {
            return answers.into_iter().flatten().collect();
        }
        core.cells().counters[Counter::Retries as usize].add(still_open.len() as u64);
        open = still_open;
        back_off.wait().await;
    }
}
