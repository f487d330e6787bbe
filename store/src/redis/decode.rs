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

/// Codes that speak of the server, not of the command. All are given before a command, or a script's first
/// write, takes effect.
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

/// Reads the code of an error. Redis before 7 wraps the error of a script: `ERR Error running script …: -OOM
/// …`.
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

/// A reply that is not what was asked for.
struct WrongShape;

type Shaped<T> = Result<T, WrongShape>;

/// The answer in a reply that is not an error.
///
/// # Errors
/// [`StoreError::Refused`] for a reply of the wrong shape, and for a value that nobody of ours has written.
pub(super) fn decode(kind: Kind, reply: &Reply<'_>) -> Result<Answer, StoreError> {
    let answer = match kind {
        Kind::Eval(script) => eval(script, reply),
        Kind::Confirm | Kind::Ping => match reply {
            Reply::Status(_) => Ok(Answer::Done),
            _ => Err(WrongShape),
        },
        Kind::Status => status(reply).map(Answer::Status),
        Kind::Statuses(count) => each(reply, count, optional_word).map(Answer::Statuses),
        Kind::Stock(count) => each(reply, count, |level| Ok(units(level))).map(Answer::Stock),
        Kind::Ledgers(count) => ledgers(reply, count).map(Answer::Ledgers),
        Kind::EvalMany(..) | Kind::Own(_) => Err(WrongShape),
    };
    answer.map_err(|WrongShape| StoreError::Refused(format!("unexpected reply {reply:?} to {kind:?}")))
}

fn eval(script: Script, reply: &Reply<'_>) -> Shaped<Answer> {
    match script {
        Script::Admit => admission(reply).map(Answer::Admitted),
        Script::Release | Script::Suspend => integer(reply).map(|flag| Answer::Retracted(flag == 1)),
        Script::Reserve => reservation(reply).map(Answer::Reserved),
        Script::Settle => ending(reply, Status::Completed).map(Answer::Ended),
        Script::Refund => ending(reply, Status::FailedPayment).map(Answer::Ended),
        Script::SetStock | Script::AddStock => match reply {
            Reply::Nil => Ok(Answer::StockLeft(None)),
            reply => integer(reply).map(|left| Answer::StockLeft(Some(left))),
        },
        // Their replies come in arrays.
        Script::ReserveMany | Script::SettleMany | Script::RefundMany | Script::Ledgers => Err(WrongShape),
    }
}

/// See the head of `admit.lua`.
fn admission(reply: &Reply<'_>) -> Shaped<Admission> {
    match *reply {
        Reply::Integer(0) => Ok(Admission::Fresh),
        Reply::Integer(1) => Ok(Admission::TakenOver),
        Reply::Integer(2) => Ok(Admission::Mismatch),
        Reply::Integer(wait) if wait < 0 => Ok(Admission::Limited { retry_after_ms: wait.unsigned_abs() }),
        ref reply => text(reply).map(|first| Admission::Duplicate { correlation_id: first.to_owned() }),
    }
}

/// See the head of `reserve.lua`.
fn reservation(reply: &Reply<'_>) -> Shaped<Reservation> {
    match *reply {
        Reply::Integer(-1) => Ok(Reservation::HeldAlready),
        Reply::Integer(-2) => Ok(Reservation::UnknownItem),
        Reply::Integer(left) if left >= 0 => Ok(Reservation::Held { left }),
        ref reply => {
            let mut words = text(reply)?.split(' ');
            match words.next() {
                Some("S") => Ok(Reservation::SoldOut { left: word(&mut words)? }),
                Some("E") => {
                    let attempt = word(&mut words)?;
                    let same_origin = word::<u8>(&mut words)? == 1;
                    let status = word(&mut words)?;
                    Ok(Reservation::EndedBefore { status, attempt, same_origin })
                }
                _ => Err(WrongShape),
            }
        }
    }
}

/// See the heads of `settle.lua` and `refund.lua`.
fn ending(reply: &Reply<'_>, end: Status) -> Shaped<Ending> {
    match reply {
        Reply::Integer(1) => Ok(Ending { applied: true, status: Some(end) }),
        reply => optional_word(reply).map(|status| Ending { applied: false, status }),
    }
}

/// A status and the `idempotency` text beside it.
fn status(reply: &Reply<'_>) -> Shaped<Option<StatusView>> {
    let mut items = items(reply, 2)?;
    let status = optional_word(&items.next().ok_or(WrongShape)?)?;
    // The correlation id is the rest behind the seventh blank; a text that nobody of ours wrote has none.
    let id = items.next().and_then(|id| text(&id).ok());
    let correlation_id = id.and_then(|id| id.splitn(8, ' ').nth(7)).map(str::to_owned);
    Ok(status.map(|status| StatusView { status, correlation_id }))
}

/// Base and taken of each, in a row.
fn ledgers(reply: &Reply<'_>, count: u32) -> Shaped<Vec<Option<Ledger>>> {
    let mut numbers = each(reply, 2 * count, optional_number)?.into_iter();
    let mut next = || numbers.next().flatten();
    let ledger = |_| {
        let (base, taken) = (next(), next());
        base.map(|base| Ledger { base, taken: taken.unwrap_or(0) })
    };
    Ok((0..count).map(ledger).collect())
}

/// The first `count` items of an array, each by itself.
fn each<T>(reply: &Reply<'_>, count: u32, read: impl Fn(&Reply<'_>) -> Shaped<T>) -> Shaped<Vec<T>> {
    items(reply, count)?.take(count as usize).map(|item| read(&item)).collect()
}

/// An array of at least so many.
fn items<'a>(reply: &Reply<'a>, count: u32) -> Shaped<Items<'a>> {
    match reply {
        Reply::Array(items) if items.len() >= count as usize => Ok(items.clone()),
        _ => Err(WrongShape),
    }
}

fn integer(reply: &Reply<'_>) -> Shaped<i64> {
    if let Reply::Integer(number) = reply { Ok(*number) } else { Err(WrongShape) }
}

fn text<'a>(reply: &Reply<'a>) -> Shaped<&'a str> {
    if let Reply::Bulk(bytes) = reply { from_utf8(bytes).map_err(|_| WrongShape) } else { Err(WrongShape) }
}

/// Units left; whatever is no plain integer is unknown.
fn units(reply: &Reply<'_>) -> Option<i64> {
    if let Reply::Bulk(bytes) = reply { known_units(bytes) } else { None }
}

/// A word of [`Status`], or nil.
fn optional_word(reply: &Reply<'_>) -> Shaped<Option<Status>> {
    match reply {
        Reply::Nil => Ok(None),
        reply => text(reply)?.parse().map(Some).map_err(|_| WrongShape),
    }
}

/// A number as text, or nil.
fn optional_number(reply: &Reply<'_>) -> Shaped<Option<i64>> {
    match reply {
        Reply::Nil => Ok(None),
        reply => text(reply)?.parse().map(Some).map_err(|_| WrongShape),
    }
}

/// The next word, as a number or a status.
fn word<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Shaped<T> {
    words.next().and_then(|word| word.parse().ok()).ok_or(WrongShape)
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
            assert!(matches!(decode(kind, &reply), Err(StoreError::Refused(_))), "{kind:?} {reply:?}");
        }
    }
}
