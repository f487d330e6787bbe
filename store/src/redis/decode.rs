//! A reply as an answer, and what an error reply says about the server.

use std::str::{FromStr, from_utf8};

use wire::names::Status;
use wire::resp::{Items, Reply};

use super::encode::Kind;
use super::scripts::Script;
use crate::answer::{Ledger, known_units};
use crate::{Admission, Answer, Ending, Reservation, StatusView, StoreError};

/// What an error reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The script is not there any more; the command did not run.
    NoScript,
    /// The server serves nobody like this now (a replica, loading, full, …); the command did not run.
    Server,
    /// This one command cannot be carried out.
    Command,
}

/// Codes that speak of the server, not of the command. All are given before a command, or a script's first write,
/// takes effect.
const SERVER_CODES: [&[u8]; 15] = [
    b"LOADING",
    b"READONLY",
    b"MASTERDOWN",
    b"CLUSTERDOWN",
    b"TRYAGAIN",
    b"MOVED",
    b"ASK",
    b"BUSY",
    b"OOM",
    b"MISCONF",
    b"NOREPLICAS",
    b"NOAUTH",
    b"NOPERM",
    b"WRONGPASS",
    b"UNKILLABLE",
];

/// Reads the code of an error. Redis before 7 wraps the error of a script: `ERR Error running script …: -OOM …`.
pub(super) fn fault(error: &[u8]) -> Fault {
    let code = error.split(|&byte| byte == b' ').next().unwrap_or_default();
    if code == b"NOSCRIPT" {
        return Fault::NoScript;
    }
    let is_wrapped = error.starts_with(b"ERR Error running script");
    let mut words = error.split(|byte| !byte.is_ascii_uppercase());
    let is_server =
        SERVER_CODES.contains(&code) || (is_wrapped && words.any(|word| SERVER_CODES.contains(&word)));
    if is_server { Fault::Server } else { Fault::Command }
}

/// The answer in a reply that is not an error.
///
/// # Errors
/// [`StoreError::Refused`] for a reply of the wrong shape, and for a value that nobody of ours has written.
pub(super) fn decode(kind: Kind, reply: Reply<'_>) -> Result<Answer, StoreError> {
    let answer = match kind {
        Kind::Eval(script) => eval(script, reply),
        Kind::Confirm | Kind::Ping => matches!(reply, Reply::Status(_)).then_some(Answer::Done),
        Kind::Status => status(reply).map(Answer::Status),
        Kind::Statuses(count) => items(reply, count).and_then(|items| {
            let statuses = items.take(count as usize).map(optional_word);
            statuses.collect::<Option<_>>().map(Answer::Statuses)
        }),
        Kind::Stock(count) => {
            let level = |reply| text(reply).and_then(|text| known_units(text.as_bytes()));
            items(reply, count).map(|items| Answer::Stock(items.take(count as usize).map(level).collect()))
        }
        Kind::Ledgers(count) => ledgers(reply, count).map(Answer::Ledgers),
        Kind::Own(_) => None,
    };
    answer.ok_or_else(|| StoreError::Refused(format!("unexpected reply {reply:?} to {kind:?}")))
}

fn eval(script: Script, reply: Reply<'_>) -> Option<Answer> {
    match script {
        Script::Admit => admission(reply).map(Answer::Admitted),
        Script::Release | Script::Suspend => integer(reply).map(|flag| Answer::Retracted(flag == 1)),
        Script::Reserve => reservation(reply).map(Answer::Reserved),
        Script::Settle => ending(reply, Status::Completed).map(Answer::Ended),
        Script::Refund => ending(reply, Status::FailedPayment).map(Answer::Ended),
        Script::SetStock | Script::AddStock => match reply {
            Reply::Nil => Some(Answer::StockLeft(None)),
            reply => integer(reply).map(|left| Answer::StockLeft(Some(left))),
        },
        Script::Ledgers => None,
    }
}

/// See the head of `admit.lua`.
fn admission(reply: Reply<'_>) -> Option<Admission> {
    match reply {
        Reply::Integer(0) => Some(Admission::Fresh),
        Reply::Integer(1) => Some(Admission::TakenOver),
        Reply::Integer(2) => Some(Admission::Mismatch),
        Reply::Integer(wait) if wait < 0 => Some(Admission::Limited { retry_after_ms: wait.unsigned_abs() }),
        reply => text(reply).map(|first| Admission::Duplicate { correlation_id: first.to_owned() }),
    }
}

/// See the head of `reserve.lua`.
fn reservation(reply: Reply<'_>) -> Option<Reservation> {
    match reply {
        Reply::Integer(-1) => return Some(Reservation::HeldAlready),
        Reply::Integer(-2) => return Some(Reservation::UnknownItem),
        Reply::Integer(left) => return (left >= 0).then_some(Reservation::Held { left }),
        _ => {}
    }
    let text = text(reply)?;
    if let Some(left) = text.strip_prefix("S ") {
        return Some(Reservation::SoldOut { left: left.parse().ok()? });
    }
    let mut words = text.strip_prefix("E ")?.split(' ');
    let attempt = words.next()?.parse().ok()?;
    let same_origin = words.next()? == "1";
    Some(Reservation::EndedBefore { status: Status::from_str(words.next()?).ok()?, attempt, same_origin })
}

/// See the heads of `settle.lua` and `refund.lua`.
fn ending(reply: Reply<'_>, end: Status) -> Option<Ending> {
    match reply {
        Reply::Integer(1) => Some(Ending { applied: true, status: Some(end) }),
        reply => optional_word(reply).map(|status| Ending { applied: false, status }),
    }
}

/// A status and the `idempotency` text beside it.
fn status(reply: Reply<'_>) -> Option<Option<StatusView>> {
    let mut items = items(reply, 2)?;
    let status = optional_word(items.next()?)?;
    // The correlation id is the rest behind the seventh blank; a text that nobody of ours wrote has none.
    let correlation_id = text(items.next()?).and_then(|id| id.splitn(8, ' ').nth(7)).map(str::to_owned);
    Some(status.map(|status| StatusView { status, correlation_id }))
}

fn ledgers(reply: Reply<'_>, count: u32) -> Option<Vec<Option<Ledger>>> {
    let mut numbers = items(reply, 2 * count)?;
    let mut ledgers = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (base, taken) = (numbers.next()?, numbers.next()?);
        ledgers.push(match base {
            Reply::Nil => None,
            base => {
                let taken = if taken == Reply::Nil { 0 } else { text(taken)?.parse().ok()? };
                Some(Ledger { base: text(base)?.parse().ok()?, taken })
            }
        });
    }
    Some(ledgers)
}

/// An array of at least so many.
fn items(reply: Reply<'_>, count: u32) -> Option<Items<'_>> {
    match reply {
        Reply::Array(items) if items.len() >= count as usize => Some(items),
        _ => None,
    }
}

fn integer(reply: Reply<'_>) -> Option<i64> {
    if let Reply::Integer(number) = reply { Some(number) } else { None }
}

fn text(reply: Reply<'_>) -> Option<&str> {
    if let Reply::Bulk(bytes) = reply { from_utf8(bytes).ok() } else { None }
}

/// A word of [`Status`], or nil.
fn optional_word(reply: Reply<'_>) -> Option<Option<Status>> {
    match reply {
        Reply::Nil => Some(None),
        reply => Status::from_str(text(reply)?).ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whose_fault_they_are() {
        for (error, expected) in [
            ("NOSCRIPT No matching script. Please use EVAL.", Fault::NoScript),
            ("LOADING Redis is loading the dataset in memory", Fault::Server),
            (
                "READONLY You can't write against a read only replica. script: 1f, on @user_script:9.",
                Fault::Server,
            ),
            ("OOM command not allowed when used memory > 'maxmemory'.", Fault::Server),
            (
                "ERR Error running script (call to f_1f): @user_script:2: -OOM command not allowed",
                Fault::Server,
            ),
            ("ERR Error running script (call to f_1f): @user_script:2: WRONGTYPE Operation", Fault::Command),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Fault::Command),
            ("ERR value is not an integer or out of range", Fault::Command),
            ("", Fault::Command),
        ] {
            assert_eq!(fault(error.as_bytes()), expected, "{error}");
        }
    }

    #[test]
    fn replies_of_the_wrong_shape_are_refused() {
        let wrong = [
            (Kind::Eval(Script::Admit), Reply::Integer(3)),
            (Kind::Eval(Script::Reserve), Reply::Integer(-3)),
            (Kind::Eval(Script::Reserve), Reply::Bulk(b"E 0 1 LOST")),
            (Kind::Eval(Script::Settle), Reply::Bulk(b"SHIPPED")),
            (Kind::Status, Reply::Nil),
            (Kind::Stock(1), Reply::Integer(1)),
        ];
        for (kind, reply) in wrong {
            assert!(matches!(decode(kind, reply), Err(StoreError::Refused(_))), "{kind:?} {reply:?}");
        }
    }
}
