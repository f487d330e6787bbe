//! Encodes the value of `order_status` as a processor writes it (`wire/src/status_value.rs`).
//!
//! A fence that is completed or sold out never changes, so any processor may write its status with a plain
//! SET at any time. A status that a replay may change is written by a script, which does not overwrite the
//! status of a later attempt.

use wire::names::{ORDER_STATUS_PREFIX, Status};
use wire::resp::{Decimal, write_bulk_parts, write_number};

use super::keys::{eval, hex16, key};
use super::reply_kind::Kind;
use super::scripts::{Script, Shas};
use crate::{Claim, FinalStatus, Policy, is_replayable};

pub(super) fn claim(out: &mut Vec<u8>, claim: &Claim<'_>, policy: &Policy) -> Kind {
    let Claim { fingerprint, accepted_at_ms, .. } = *claim;
    out.extend_from_slice(b"*7\r\n$3\r\nSET\r\n");
    key(out, ORDER_STATUS_PREFIX, claim.request_id);
    let at_ms = Decimal::new(accepted_at_ms);
    let correlation_id = claim.correlation_id.as_bytes();
    write_bulk_parts(
        out,
        &[b"PENDING C ", &hex16(fingerprint), b" ", correlation_id, b"\n", at_ms.as_bytes()],
    );
    out.extend_from_slice(b"$2\r\nNX\r\n$3\r\nGET\r\n$2\r\nPX\r\n");
    write_number(out, policy.order_status_ttl_ms);
    Kind::Claim { fingerprint, accepted_at_ms }
}

pub(super) fn write(out: &mut Vec<u8>, status: &FinalStatus<'_>, shas: &Shas, policy: &Policy) -> Kind {
    let fingerprint = hex16(status.fingerprint);
    let (word, correlation_id) = (status.status.word().as_bytes(), status.correlation_id.as_bytes());
    let (attempt, at_ms) = (Decimal::new(status.attempt), Decimal::new(status.accepted_at_ms));
    let value: [&[u8]; 9] =
        [word, b" ", &fingerprint, b" ", correlation_id, b"\n", attempt.as_bytes(), b" ", at_ms.as_bytes()];
    if is_replayable(status.status) {
        eval(out, shas, Script::FailedStatus, 1, 2);
        key(out, ORDER_STATUS_PREFIX, status.request_id);
        write_bulk_parts(out, &value);
        write_number(out, status.attempt);
        return Kind::Eval(Script::FailedStatus);
    }
    debug_assert!(status.status == Status::Completed || status.status == Status::FailedSoldOut);
    out.extend_from_slice(b"*5\r\n$3\r\nSET\r\n");
    key(out, ORDER_STATUS_PREFIX, status.request_id);
    write_bulk_parts(out, &value);
    out.extend_from_slice(b"$2\r\nPX\r\n");
    write_number(out, policy.order_status_ttl_ms);
    Kind::Done
}
