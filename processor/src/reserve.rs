//! Units out of stock, for a whole batch in one flush.

use store::{Answer, Command, Reservation, Reserve, Store, StoreError};

use crate::core::{BackOff, Core};
use crate::metrics::Counter;
use crate::read::Work;

/// What became of each order's wish, in order; the error is Redis's refusal of that one order. Asks again until the
/// store answers: the fence makes a repeated step harmless.
pub(crate) async fn reserve(core: &Core, works: &[Work]) -> Vec<Result<Reservation, String>> {
    let commands: Vec<Command<'_>> = works.iter().map(command).collect();
    ask_until_answered(core, &commands)
        .await
        .into_iter()
        .map(|answer| match answer {
            Ok(Answer::Reserved(reservation)) => Ok(reservation),
            Ok(other) => Err(format!("unexpected answer {other:?}")),
            Err(reason) => Err(reason),
        })
        .collect()
}

fn command(work: &Work) -> Command<'_> {
    Command::Reserve(Reserve {
        request_id: &work.request_id,
        item_id: &work.item_id,
        amount: work.amount,
        attempt: work.attempt,
        origin: work.origin,
    })
}

/// Asks all, then those again that had no answer, with back-off, until each has one.
pub(crate) async fn ask_until_answered(core: &Core, commands: &[Command<'_>]) -> Vec<Result<Answer, String>> {
    let mut answers: Vec<Option<Result<Answer, String>>> = vec![None; commands.len()];
    let mut back_off = BackOff::default();
    let mut open: Vec<usize> = (0..commands.len()).collect();
    loop {
        let asked: Vec<Command<'_>> = open.iter().map(|&at| commands[at]).collect();
        let mut still_open = Vec::new();
        for (&at, answer) in open.iter().zip(core.store.ask_all(&asked).await) {
            match answer {
                Ok(answer) => answers[at] = Some(Ok(answer)),
                Err(StoreError::Refused(reason)) => answers[at] = Some(Err(reason)),
                Err(StoreError::Away | StoreError::Lost | StoreError::Full) => still_open.push(at),
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
