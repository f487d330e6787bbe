//! Writes the status derived from each fence, for many orders in one flush.

use store::{Command, FinalStatus};
use wire::names::Status;

use crate::core::Core;
use crate::read::Work;
use crate::reserve::ask_until_answered;

/// Writes the final status of each order, with the attempt that led to it. Results are in the same order; an
/// error means that Redis refused that one write.
pub(crate) async fn write_statuses(
    core: &Core,
    statuses: &[(&Work, Status, u32)],
) -> Vec<Result<(), String>> {
    let commands: Vec<Command<'_>> = statuses
        .iter()
        .map(|&(work, status, attempt)| {
            Command::WriteStatus(FinalStatus {
                request_id: &work.request_id,
                status,
                attempt,
                fingerprint: work.fingerprint(),
                correlation_id: &work.correlation_id,
                accepted_at_ms: work.accepted_at_ms,
            })
        })
        .collect();
    let answers = ask_until_answered(core, &commands).await;
    answers.into_iter().map(|answered| answered.answer.map(drop)).collect()
}
