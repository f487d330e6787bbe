//! Admission and release as sequences of steps ([`super::step`]). Both commands of a new order are sent at
//! once; further steps are needed only if the user already has a window or the id is taken.
//!
//! [`StoreError::Lost`] means that the admission may have changed Redis; a release with its owner and
//! sequence undoes that. This holds whichever step failed, so a release may be repeated. If a takeover is
//! lost between its two steps, the entry of the first send stays in the window: the user is then rejected for
//! longer, never for a shorter time.

use std::time::{Duration, Instant};

use shard::join::all;
use shard::waiters::Wait;
use wire::status_value::{Holder, StatusValue};

use super::keys::hex16;
use super::link::Link;
use super::pipeline::Outcome;
use super::step::Step;
use crate::answer::Answer;
use crate::tag::tag_of;
use crate::{Admission, AdmissionKey, Admit, Command, StoreError};

/// An admission that takes longer takes nothing over. The process may have been stopped meanwhile, and then the owner of the
/// id has not had the time to confirm what it had acknowledged before. A shorter stop is covered by the difference between
/// `takeover_after_ms` and the time that a publish may take (the gateway's `TAKEOVER_SLACK`).
const TAKEOVER_TIME_MAX: Duration = Duration::from_millis(300);

/// Decides whether this order may be published.
///
/// # Errors
/// [`StoreError::Lost`] as described above; after any other error nothing has changed.
pub(super) async fn admit(link: &Link, admit: &Admit<'_>) -> Result<Admission, StoreError> {
    let began = Instant::now();
    let tag = tag_of(admit.owner, admit.sequence);
    let window = link.step(&Step::BeginWindow { user_id: admit.user_id, tag })?;
    // The first step is already in flight, so its result is unknown.
    let id = link.step(&Step::TakeId(admit)).map_err(|_| StoreError::Lost)?;
    let (window, id) = (number(window).await, text(id).await);
    match (window, id) {
        (Ok(1), Ok(None)) => Ok(Admission::Fresh),
        (Ok(_), Ok(None)) => count(link, admit).await,
        (Ok(is_counted), Ok(Some(seen))) => {
            refuse_or_take_over(link, admit, &seen, is_counted == 1, began).await
        }
        (Err(StoreError::Unreachable), Err(StoreError::Unreachable)) => Err(StoreError::Unreachable),
        // One of the two keys has the wrong type; the other one may have been set.
        (Err(StoreError::Refused(reason)), _) | (_, Err(StoreError::Refused(reason))) => {
            release(link, &admission_key(admit)).await.map_err(|_| StoreError::Lost)?;
            Err(StoreError::Refused(reason))
        }
        _ => Err(StoreError::Lost),
    }
}

/// Counts the admission of a user who already has a window; the id has been taken.
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

/// The id is already taken, with the value `seen`. `is_counted`: the user had no window, and this admission
/// was counted in a new one.
async fn refuse_or_take_over(
    link: &Link,
    admit: &Admit<'_>,
    seen: &str,
    is_counted: bool,
    began: Instant,
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
                if began.elapsed() > TAKEOVER_TIME_MAX {
                    return Err(StoreError::Lost);
                }
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

/// A suspended id may be taken over at once; a pending one when it is old enough and above its owner's
/// watermark.
async fn may_take_over(link: &Link, request_id: &str, holder: &Holder<'_>) -> Result<bool, StoreError> {
    if holder.is_suspended {
        return Ok(true);
    }
    let lost = |_| StoreError::Lost;
    let ttl = link.step(&Step::TimeToLive { request_id }).map_err(lost)?;
    let watermark = link.step(&Step::Watermark { owner: holder.owner }).map_err(lost)?;
    let (ttl_ms, watermark) = (number(ttl).await.map_err(lost)?, text(watermark).await.map_err(lost)?);
    let policy = &link.settings.policy;
    // Negative: the key has expired since, or somebody made it persistent.
    let Ok(ttl_ms) = u64::try_from(ttl_ms) else { return Ok(false) };
    let is_old = policy.order_status_ttl_ms.saturating_sub(ttl_ms) >= policy.takeover_after_ms;
    let watermark: Option<u64> = watermark.and_then(|watermark| watermark.parse().ok());
    Ok(is_old && watermark.is_none_or(|watermark| watermark < holder.sequence))
}

/// The id was taken over from `holder`: counts the new admission in place of the former one. If the user is
/// over the limit, the id stays suspended, because the first send may have been persisted.
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
    link.ask(&Command::Suspend(admission_key(admit))).map_err(lost)?.await.map_err(lost)?;
    Ok(Admission::Limited { retry_after_ms: counted.unsigned_abs() })
}

/// Frees the id and removes the admission from the user's window; an id that was taken over is suspended
/// instead. Returns false if that owner and sequence did not hold the id.
///
/// # Errors
/// The release may have been applied in part; repeat it.
pub(super) async fn release(link: &Link, admission_key: &AdmissionKey<'_>) -> Result<bool, StoreError> {
    let AdmissionKey { user_id, request_id, owner, sequence } = *admission_key;
    let released = ask(link, &Step::ReleaseId { request_id, owner, sequence }).await?;
    // The first send of a suspended id may have been persisted, so its admission still counts.
    if released != 1 {
        let uncount = Step::Uncount { user_id, tag: tag_of(owner, sequence) };
        ask(link, &uncount).await.map_err(|_| StoreError::Lost)?;
    }
    Ok(released != 0)
}

/// Releases many at once, so that they share their flushes; returns the answers in the same order.
pub(super) async fn release_all(
    link: &Link,
    admission_keys: &[AdmissionKey<'_>],
) -> Vec<Result<bool, StoreError>> {
    all(admission_keys.iter().map(|admission_key| Box::pin(release(link, admission_key))).collect()).await
}

fn admission_key<'a>(admit: &Admit<'a>) -> AdmissionKey<'a> {
    let Admit { user_id, request_id, owner, sequence, .. } = *admit;
    AdmissionKey { user_id, request_id, owner, sequence }
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
