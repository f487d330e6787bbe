//! Admission and release, step by step ([`super::step`]). Both commands of a new order are sent at once; only a user who has
//! a window already, or an id that is taken, needs further steps.
//!
//! [`StoreError::Lost`] says that the admission may have left something behind, which a release by its owner and sequence
//! takes back. That holds for whatever step failed, so a release may be repeated. A takeover that is lost between its two
//! steps leaves the first send's entry in the window: the user is then refused for longer, never for less.

use shard::join::all;
use shard::waiters::Wait;
use wire::status_value::{Holder, StatusValue};

use super::encode::hex16;
use super::flight::Outcome;
use super::link::Link;
use super::step::Step;
use crate::answer::Answer;
use crate::tag::tag_of;
use crate::{Admission, Admit, Command, Retract, StoreError};

/// May this order be published?
///
/// # Errors
/// [`StoreError::Lost`] as above; others changed nothing.
pub(super) async fn admit(link: &Link, admit: &Admit<'_>) -> Result<Admission, StoreError> {
    let tag = tag_of(admit.owner, admit.sequence);
    let window = link.step(&Step::BeginWindow { user_id: admit.user_id, tag })?;
    // The other one is on its way already.
    let id = link.step(&Step::TakeId(admit)).map_err(|_| StoreError::Lost)?;
    let (window, id) = (number(window).await, text(id).await);
    match (window, id) {
        (Ok(1), Ok(None)) => Ok(Admission::Fresh),
        (Ok(_), Ok(None)) => count(link, admit).await,
        (Ok(is_counted), Ok(Some(seen))) => refuse_or_take_over(link, admit, &seen, is_counted == 1).await,
        (Err(StoreError::Away), Err(StoreError::Away)) => Err(StoreError::Away),
        // One of the two keys is of the wrong type; the other one may have been set.
        (Err(StoreError::Refused(reason)), _) | (_, Err(StoreError::Refused(reason))) => {
            release(link, &retract(admit)).await.map_err(|_| StoreError::Lost)?;
            Err(StoreError::Refused(reason))
        }
        _ => Err(StoreError::Lost),
    }
}

/// The id is ours, and the user has a window.
async fn count(link: &Link, admit: &Admit<'_>) -> Result<Admission, StoreError> {
    let tag = tag_of(admit.owner, admit.sequence);
    let counted = ask(link, &Step::Count { user_id: admit.user_id, tag, instead_of: None }).await;
    let refusal = match counted {
        Ok(0) => return Ok(Admission::Fresh),
        Ok(wait) => Ok(Admission::Limited { retry_after_ms: wait.unsigned_abs() }),
        Err(StoreError::Refused(reason)) => Err(StoreError::Refused(reason)),
        Err(_) => return Err(StoreError::Lost),
    };
    let release =
        Step::ReleaseId { request_id: admit.request_id, owner: admit.owner, sequence: admit.sequence };
    ask(link, &release).await.map_err(|_| StoreError::Lost)?;
    refusal
}

/// The id holds `seen`. `is_counted`: the user had no window, and ours is counted there.
async fn refuse_or_take_over(
    link: &Link,
    admit: &Admit<'_>,
    seen: &str,
    is_counted: bool,
) -> Result<Admission, StoreError> {
    let value = StatusValue::parse(seen);
    let duplicate = || {
        let correlation_id = value.correlation_id.unwrap_or_default().to_owned();
        Admission::Duplicate { correlation_id }
    };
    let refusal = match value.fingerprint {
        Some(fingerprint) if fingerprint.as_bytes() != hex16(admit.fingerprint) => Admission::Mismatch,
        _ => match value.holder {
            Some(holder) if may_take_over(link, admit.request_id, &holder).await? => {
                if ask(link, &Step::TakeOver { admit, seen, accepted_at_ms: holder.accepted_at_ms })
                    .await
                    .map_err(|_| StoreError::Lost)?
                    == 1
                {
                    return count_takeover(link, admit, &holder).await;
                }
                duplicate()
            }
            _ => duplicate(),
        },
    };
    if is_counted {
        let tag = tag_of(admit.owner, admit.sequence);
        let uncount = Step::Uncount { user_id: admit.user_id, tag };
        ask(link, &uncount).await.map_err(|_| StoreError::Lost)?;
    }
    Ok(refusal)
}

/// A suspended id at once; a pending one when it is old and its owner has not resolved it.
async fn may_take_over(link: &Link, request_id: &str, holder: &Holder<'_>) -> Result<bool, StoreError> {
    if holder.is_suspended {
        return Ok(true);
    }
    let lost = |_| StoreError::Lost;
    let ttl = link.step(&Step::TimeToLive { request_id }).map_err(lost)?;
    let watermark = link.step(&Step::Watermark { owner: holder.owner }).map_err(lost)?;
    let (ttl_ms, watermark) = (number(ttl).await.map_err(lost)?, text(watermark).await.map_err(lost)?);
    let policy = &link.settings.policy;
    // Negative: it has expired since, or somebody made it persistent.
    let Ok(ttl_ms) = u64::try_from(ttl_ms) else { return Ok(false) };
    let is_old = policy.order_status_ttl_ms.saturating_sub(ttl_ms) >= policy.takeover_after_ms;
    let watermark: Option<u64> = watermark.and_then(|watermark| watermark.parse().ok());
    Ok(is_old && watermark.is_none_or(|watermark| watermark < holder.sequence))
}

/// The id was taken over from `holder`: counts it in the place of that admission. Over the limit the id stays suspended,
/// because the first send may have been persisted.
async fn count_takeover(
    link: &Link,
    admit: &Admit<'_>,
    holder: &Holder<'_>,
) -> Result<Admission, StoreError> {
    let lost = |_| StoreError::Lost;
    let tag = tag_of(admit.owner, admit.sequence);
    let instead_of = Some(tag_of(holder.owner, holder.sequence));
    let counted = ask(link, &Step::Count { user_id: admit.user_id, tag, instead_of }).await.map_err(lost)?;
    if counted == 0 {
        return Ok(Admission::TakenOver { accepted_at_ms: holder.accepted_at_ms });
    }
    link.ask(&Command::Suspend(retract(admit))).map_err(lost)?.await.map_err(lost)?;
    Ok(Admission::Limited { retry_after_ms: counted.unsigned_abs() })
}

/// Frees the id and gives the admission back; an id that was taken over is suspended instead. False when the id was not held
/// by that owner and sequence.
///
/// # Errors
/// It may have happened in part; repeat it.
pub(super) async fn release(link: &Link, retract: &Retract<'_>) -> Result<bool, StoreError> {
    let Retract { user_id, request_id, owner, sequence } = *retract;
    let released = ask(link, &Step::ReleaseId { request_id, owner, sequence }).await?;
    // Of a suspended id the first send may have been persisted: it counts.
    if released != 1 {
        let uncount = Step::Uncount { user_id, tag: tag_of(owner, sequence) };
        ask(link, &uncount).await.map_err(|_| StoreError::Lost)?;
    }
    Ok(released != 0)
}

/// Many at once, so that they share their flushes; answers in their order.
pub(super) async fn release_all(link: &Link, retracts: &[Retract<'_>]) -> Vec<Result<bool, StoreError>> {
    all(retracts.iter().map(|retract| Box::pin(release(link, retract))).collect()).await
}

fn retract<'a>(admit: &Admit<'a>) -> Retract<'a> {
    let Admit { user_id, request_id, owner, sequence, .. } = *admit;
    Retract { user_id, request_id, owner, sequence }
}

async fn ask(link: &Link, step: &Step<'_>) -> Result<i64, StoreError> {
    number(link.step(step)?).await
}

async fn number(wait: Wait<Outcome>) -> Result<i64, StoreError> {
    match wait.await? {
        Answer::Number(number) => Ok(number),
        other => Err(StoreError::unexpected(&other)),
    }
}

async fn text(wait: Wait<Outcome>) -> Result<Option<String>, StoreError> {
    match wait.await? {
        Answer::Text(text) => Ok(text),
        other => Err(StoreError::unexpected(&other)),
    }
}
