//! Converts replies to answers, and classifies error replies.

use std::str::{FromStr, from_utf8};

use shard::dependency::Reason;
use wire::names::Status;
use wire::resp::{Items, Reply};
use wire::status_value::StatusValue;

use super::keys::hex16;
use super::reply_kind::Kind;
use super::scripts::Script;
use crate::answer::{Ledger, known_units};
use crate::command::accepted_by_0_1_at_ms;
use crate::{Answer, Claimed, Reservation, Settlement, StatusView, StoreError, is_replayable};

/// Meaning of an error reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server no longer has the script; the command did not run.
    NoScript,
    /// The server serves nobody in its current state (a replica, loading, full, missing rights, …); the
    /// command did not run.
    Server(Reason),
    /// Only this command cannot be executed.
    Command,
}

/// Error codes about the server, not about the command. Redis returns each of them before a command, or a
/// script's first write, takes effect.
static SERVER_CODES: [(&str, Reason); 17] = [
    ("LOADING", Reason::Loading),
    ("READONLY", Reason::ReadOnly),
    // From a replica that has lost its master.
    ("MASTERDOWN", Reason::ReadOnly),
    ("CLUSTERDOWN", Reason::ClusterMode),
    ("CROSSSLOT", Reason::ClusterMode),
    ("TRYAGAIN", Reason::ClusterMode),
    ("MOVED", Reason::ClusterMode),
    ("ASK", Reason::ClusterMode),
    ("BUSY", Reason::Busy),
    ("UNKILLABLE", Reason::Busy),
    ("OOM", Reason::OutOfMemory),
    ("MISCONF", Reason::Persistence),
    ("NOREPLICAS", Reason::NotEnoughReplicas),
    ("NOAUTH", Reason::Auth),
    ("WRONGPASS", Reason::Auth),
    ("DENIED", Reason::Auth),
    ("NOPERM", Reason::Permission),
];

/// The same for errors that have no specific code.
static SERVER_TEXTS: [(&str, Reason); 7] = [
    // Redis 7, and Redis 6.
    ("ACL failure in script", Reason::Permission),
    ("The user executing the script can't", Reason::Permission),
    ("Script attempted to access", Reason::ClusterMode),
    ("max number of clients reached", Reason::TooManyClients),
    ("unknown command", Reason::Unsupported),
    // Redis before 7: `SET` with `NX` and `GET`.
    ("ERR syntax error", Reason::Unsupported),
    ("Unknown Redis command called from", Reason::Unsupported),
];

/// Classifies an error by its code. Redis before 7 wraps the error of a script: `ERR Error running script …:
/// -OOM …`.
pub(super) fn fault(error: &[u8]) -> Fault {
    let error = String::from_utf8_lossy(error);
    let code = error.split(' ').next().unwrap_or_default();
    if code == "NOSCRIPT" {
        return Fault::NoScript;
    }
    let of_code = |word: &str| SERVER_CODES.iter().find(|(code, _)| *code == word);
    let is_wrapped = error.starts_with("ERR Error running script") || error.starts_with("@user_script");
    let mut words = error.split(|char: char| !char.is_ascii_uppercase()).filter(|_| is_wrapped);
    let found = of_code(code)
        .or_else(|| words.find_map(of_code))
        .or_else(|| SERVER_TEXTS.iter().find(|(text, _)| error.contains(text)));
    found.map_or(Fault::Command, |&(_, reason)| Fault::Server(reason))
}

/// A reply of an unexpected type or form.
struct WrongShape;

type Shaped<T> = Result<T, WrongShape>;

/// Decodes a reply that is not an error.
///
/// # Errors
/// [`StoreError::Refused`] for a reply of the wrong shape, and for a value that this software did not write.
pub(super) fn decode(kind: Kind, reply: &Reply<'_>) -> Result<Answer, StoreError> {
    let answer = match kind {
        Kind::Eval(script) => eval(script, reply),
        Kind::IsSet => match reply {
            Reply::Status(_) => Ok(Answer::Number(1)),
            Reply::Nil => Ok(Answer::Number(0)),
            _ => Err(WrongShape),
        },
        Kind::Text => match reply {
            Reply::Nil => Ok(Answer::Text(None)),
            reply => text(reply).map(|text| Answer::Text(Some(text.to_owned()))),
        },
        Kind::Number => integer(reply).map(Answer::Number),
        Kind::Done => match reply {
            Reply::Status(_) => Ok(Answer::Done),
            _ => Err(WrongShape),
        },
        Kind::Claim { fingerprint, accepted_at_ms } => {
            claimed(reply, fingerprint, accepted_at_ms).map(Answer::Claimed)
        }
        Kind::Status => status(reply).map(Answer::Status),
        Kind::Statuses(count) => each(reply, count, optional_status).map(Answer::Statuses),
        Kind::Stock(count) => each(reply, count, |level| Ok(units(level))).map(Answer::Stock),
        Kind::Ledgers(count) => ledgers(reply, count).map(Answer::Ledgers),
        Kind::EvalMany(..) | Kind::Internal(_) => Err(WrongShape),
    };
    answer.map_err(|WrongShape| StoreError::Refused(format!("unexpected reply {reply:?} to {kind:?}")))
}

fn eval(script: Script, reply: &Reply<'_>) -> Shaped<Answer> {
    match script {
        Script::Count | Script::Uncount | Script::ReleaseId | Script::TakeOver => {
            integer(reply).map(Answer::Number)
        }
        Script::Suspend => integer(reply).map(|flag| Answer::WasHeld(flag == 1)),
        Script::Reserve => reservation(reply).map(Answer::Reserved),
        Script::Settle => settlement(reply, Status::Completed).map(Answer::Settled),
        Script::Refund => settlement(reply, Status::FailedPayment).map(Answer::Settled),
        Script::SetStock | Script::AddStock => match reply {
            Reply::Nil => Ok(Answer::StockLeft(None)),
            reply => integer(reply).map(|left| Answer::StockLeft(Some(left))),
        },
        Script::FailedStatus | Script::Import => integer(reply).map(|_| Answer::Done),
        // These scripts have their own kinds.
        Script::Ledgers | Script::ProbeGateway | Script::ProbeProcessor => Err(WrongShape),
    }
}

/// See the comment at the top of `reserve.lua`.
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
                    Ok(Reservation::AlreadyFinal { status, attempt, same_origin })
                }
                _ => Err(WrongShape),
            }
        }
    }
}

/// See the comments at the top of `settle.lua` and `refund.lua`; for the fence, of `reserve.lua`.
fn settlement(reply: &Reply<'_>, end: Status) -> Shaped<Settlement> {
    let none = Settlement { applied: false, status: None, attempt: 0 };
    match reply {
        Reply::Integer(1) => Ok(Settlement { applied: true, status: Some(end), attempt: 0 }),
        Reply::Nil => Ok(none),
        reply => {
            let mut words = text(reply)?.split(' ');
            let status = match words.next() {
                Some("H") => Status::Pending,
                Some("C") => Status::Completed,
                Some("S") => Status::FailedSoldOut,
                Some("R") => Status::FailedPayment,
                Some("U") => Status::FailedUnknownItem,
                _ => return Err(WrongShape),
            };
            let attempt =
                if status == Status::Pending || is_replayable(status) { word(&mut words)? } else { 0 };
            Ok(Settlement { status: Some(status), attempt, ..none })
        }
    }
}

/// Decodes the value of the id before it was claimed. A status of version 0.1 has no acceptance time, so a
/// substitute is derived from the fingerprint, the same for all copies.
fn claimed(reply: &Reply<'_>, fingerprint: u64, accepted_at_ms: u64) -> Shaped<Claimed> {
    let value = match reply {
        Reply::Nil => return Ok(Claimed::At { accepted_at_ms }),
        reply => StatusValue::parse(text(reply)?),
    };
    let status: Status = value.word.parse().map_err(|_| WrongShape)?;
    let is_same = value.fingerprint.is_none_or(|held| held.as_bytes() == hex16(fingerprint));
    if is_same && value.accepted_at_ms.is_none() && status.is_final() && !is_replayable(status) {
        return Ok(Claimed::AlreadyFinal);
    }
    let accepted_at_ms = value.accepted_at_ms.unwrap_or_else(|| accepted_by_0_1_at_ms(fingerprint));
    Ok(if is_same { Claimed::At { accepted_at_ms } } else { Claimed::Conflict })
}

fn status(reply: &Reply<'_>) -> Shaped<Option<StatusView>> {
    let Some(status) = optional_status(reply)? else { return Ok(None) };
    let correlation_id = StatusValue::parse(text(reply)?).correlation_id.map(str::to_owned);
    Ok(Some(StatusView { status, correlation_id }))
}

/// Base and taken of each item, as one flat array.
fn ledgers(reply: &Reply<'_>, count: u32) -> Shaped<Vec<Option<Ledger>>> {
    let mut numbers = each(reply, 2 * count, optional_number)?.into_iter();
    let mut next = || numbers.next().flatten();
    let ledger = |_| {
        let (base, taken) = (next(), next());
        base.map(|base| Ledger { base, taken: taken.unwrap_or(0) })
    };
    Ok((0..count).map(ledger).collect())
}

/// Decodes each of the first `count` items of an array.
fn each<T>(reply: &Reply<'_>, count: u32, read: impl Fn(&Reply<'_>) -> Shaped<T>) -> Shaped<Vec<T>> {
    items(reply, count)?.take(count as usize).map(|item| read(&item)).collect()
}

/// An array of at least `count` items.
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

/// Units left; anything but a plain integer is unknown.
fn units(reply: &Reply<'_>) -> Option<i64> {
    if let Reply::Bulk(bytes) = reply { known_units(bytes) } else { None }
}

/// The status at the start of an `order_status` value, or nil.
fn optional_status(reply: &Reply<'_>) -> Shaped<Option<Status>> {
    match reply {
        Reply::Nil => Ok(None),
        reply => StatusValue::parse(text(reply)?).word.parse().map(Some).map_err(|_| WrongShape),
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
    fn errors_are_classified_by_cause() {
        let server = Fault::Server;
        for (error, expected) in [
            ("NOSCRIPT No matching script. Please use EVAL.", Fault::NoScript),
            ("LOADING Redis is loading the dataset in memory", server(Reason::Loading)),
            (
                "READONLY You can't write against a read only replica. script: 1f, on @user_script:9.",
                server(Reason::ReadOnly),
            ),
            ("OOM command not allowed when used memory > 'maxmemory'.", server(Reason::OutOfMemory)),
            (
                "ERR Error running script (call to f_1f): @user_script:2: -OOM command not allowed",
                server(Reason::OutOfMemory),
            ),
            ("ERR Error running script (call to f_1f): @user_script:2: WRONGTYPE Operation", Fault::Command),
            (
                "ERR Error running script (call to f_1f): @user_script:2: @user_script: 2: The user executing the \
                 script can't run this command or subcommand",
                server(Reason::Permission),
            ),
            (
                "ERR ACL failure in script: User shop has no permissions to run the 'psetex' command script: 1f",
                server(Reason::Permission),
            ),
            ("NOPERM User shop has no permissions to run the 'evalsha' command", server(Reason::Permission)),
            ("WRONGPASS invalid username-password pair or user is disabled.", server(Reason::Auth)),
            ("CROSSSLOT Keys in request don't hash to the same slot", server(Reason::ClusterMode)),
            (
                "ERR Script attempted to access a non local key in a cluster node script: 1f",
                server(Reason::ClusterMode),
            ),
            ("MISCONF Redis is configured to save RDB snapshots, but", server(Reason::Persistence)),
            ("ERR max number of clients reached", server(Reason::TooManyClients)),
            ("ERR unknown command 'EVALSHA', with args beginning with:", server(Reason::Unsupported)),
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
            (Kind::Eval(Script::Count), Reply::Nil),
            (Kind::IsSet, Reply::Integer(1)),
            (Kind::Text, Reply::Integer(1)),
            (Kind::Eval(Script::Reserve), Reply::Integer(-3)),
            (Kind::Eval(Script::Reserve), Reply::Bulk(b"E 0 1 LOST")),
            (Kind::Eval(Script::Settle), Reply::Bulk(b"SHIPPED")),
            (Kind::Status, Reply::Bulk(b"SHIPPED 00000000000000ff c-1")),
            (Kind::Stock(1), Reply::Integer(1)),
        ];
        for (kind, reply) in wrong {
            assert!(matches!(decode(kind, &reply), Err(StoreError::Refused(_))), "{kind:?} {reply:?}");
        }
    }
}
