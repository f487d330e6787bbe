//! The steps of an admission and a release. Each touches one key, so that keys may be on different servers.

use wire::names::{ORDER_STATUS_PREFIX, RATELIMIT_PREFIX, WATERMARK_PREFIX};
use wire::resp::{Decimal, write_array, write_bulk, write_bulk_parts, write_number};

use super::keys::{eval, hex16, key};
use super::reply_kind::Kind;
use super::scripts::{Script, Shas};
use crate::tag::Tag;
use crate::{Admit, Policy};

/// One command or script on one key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// Counts the admission of a user who has no window. Returns whether it did.
    BeginWindow { user_id: &'a str, tag: Tag },
    /// Takes the id if it is free. Returns the existing value, or nil if the id was taken.
    TakeId(&'a Admit<'a>),
    /// Counts the admission of a user who has a window, in place of the admission `instead_of` if given.
    Count { user_id: &'a str, tag: Tag, instead_of: Option<Tag> },
    /// Removes an admission from the user's window.
    Uncount { user_id: &'a str, tag: Tag },
    /// Frees or suspends the id.
    ReleaseId { request_id: &'a str, owner: &'a str, sequence: u64 },
    /// Milliseconds until the id expires.
    TimeToLive { request_id: &'a str },
    /// The watermark of an owner.
    Watermark { owner: &'a str },
    /// Takes the id over, if its value is still `seen`.
    TakeOver { admit: &'a Admit<'a>, seen: &'a str, accepted_at_ms: u64 },
}

/// Appends a step to `out`.
pub(super) fn encode(out: &mut Vec<u8>, step: &Step<'_>, shas: &Shas, policy: &Policy) -> Kind {
    match *step {
        Step::BeginWindow { user_id, tag } => {
            out.extend_from_slice(b"*6\r\n$3\r\nSET\r\n");
            key(out, RATELIMIT_PREFIX, user_id);
            out.extend_from_slice(b"$7\r\nF");
            out.extend_from_slice(&tag);
            out.extend_from_slice(b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n");
            write_number(out, policy.rate_limit_window_ms);
            Kind::IsSet
        }
        Step::TakeId(admit) => {
            out.extend_from_slice(b"*7\r\n$3\r\nSET\r\n");
            key(out, ORDER_STATUS_PREFIX, admit.request_id);
            pending(out, admit, b"PENDING P ", admit.accepted_at_ms);
            out.extend_from_slice(b"$2\r\nNX\r\n$3\r\nGET\r\n$2\r\nPX\r\n");
            write_number(out, policy.order_status_ttl_ms);
            Kind::Text
        }
        Step::Count { user_id, tag, instead_of } => {
            eval(out, shas, Script::Count, 1, 1 + usize::from(instead_of.is_some()));
            key(out, RATELIMIT_PREFIX, user_id);
            write_bulk(out, &tag);
            if let Some(tag) = instead_of {
                write_bulk(out, &tag);
            }
            Kind::Eval(Script::Count)
        }
        Step::Uncount { user_id, tag } => {
            eval(out, shas, Script::Uncount, 1, 1);
            key(out, RATELIMIT_PREFIX, user_id);
            write_bulk(out, &tag);
            Kind::Eval(Script::Uncount)
        }
        Step::ReleaseId { request_id, owner, sequence } => {
            eval(out, shas, Script::ReleaseId, 1, 2);
            key(out, ORDER_STATUS_PREFIX, request_id);
            write_bulk(out, owner.as_bytes());
            write_number(out, sequence);
            Kind::Eval(Script::ReleaseId)
        }
        Step::TimeToLive { request_id } => {
            write_array(out, 2);
            write_bulk(out, b"PTTL");
            key(out, ORDER_STATUS_PREFIX, request_id);
            Kind::Number
        }
        Step::Watermark { owner } => {
            write_array(out, 2);
            write_bulk(out, b"GET");
            key(out, WATERMARK_PREFIX, owner);
            Kind::Text
        }
        Step::TakeOver { admit, seen, accepted_at_ms } => {
            eval(out, shas, Script::TakeOver, 1, 2);
            key(out, ORDER_STATUS_PREFIX, admit.request_id);
            write_bulk(out, seen.as_bytes());
            pending(out, admit, b"PENDING T ", accepted_at_ms);
            Kind::Eval(Script::TakeOver)
        }
    }
}

/// The value of `order_status` while the admission holds the id (`wire/src/status_value.rs`).
fn pending(out: &mut Vec<u8>, admit: &Admit<'_>, start: &[u8], accepted_at_ms: u64) {
    let (sequence, at_ms) = (Decimal::new(admit.sequence), Decimal::new(accepted_at_ms));
    write_bulk_parts(
        out,
        &[
            start,
            &hex16(admit.fingerprint),
            b" ",
            admit.correlation_id.as_bytes(),
            b"\n",
            admit.owner.as_bytes(),
            b" ",
            sequence.as_bytes(),
            b" ",
            at_ms.as_bytes(),
        ],
    );
}
