//! Groups reservations, settlements or refunds: adjacent commands of one kind, item and bucket in one
//! `ask_all` become one script call, which reads all fences once and changes the stock once.

use wire::names::INVENTORY_PREFIX;
use wire::order::{AMOUNT_MAX, fingerprint};
use wire::resp::{Decimal, write_bulk, write_bulk_parts, write_number};

use super::keys::{eval, fence_key, key, ledger_key};
use super::reply_kind::Kind;
use super::scripts::{Script, Shas};
use crate::{Command, Origin, Reserve, Settle, fence_bucket};

/// Orders per call. Redis is blocked during a call, half a millisecond for 64 orders; doubling it would save
/// another 1 % of Redis CPU.
pub(super) const ORDERS_MAX: usize = 64;

/// The kind, item and acceptance time of a command; all orders of one call share kind, item and bucket.
fn group_key<'a>(command: &Command<'a>) -> Option<(Script, &'a str, u64)> {
    match *command {
        Command::Reserve(Reserve { item_id, accepted_at_ms, .. }) => {
            Some((Script::Reserve, item_id, accepted_at_ms))
        }
        Command::Settle(Settle { item_id, accepted_at_ms, .. }) => {
            Some((Script::Settle, item_id, accepted_at_ms))
        }
        Command::Refund(Settle { item_id, accepted_at_ms, .. }) => {
            Some((Script::Refund, item_id, accepted_at_ms))
        }
        _ => None,
    }
}

fn request_id<'a>(command: &Command<'a>) -> &'a str {
    match *command {
        Command::Reserve(Reserve { request_id, .. })
        | Command::Settle(Settle { request_id, .. })
        | Command::Refund(Settle { request_id, .. }) => request_id,
        _ => "",
    }
}

/// Number of commands at the front that one script call can serve: the same kind, item and bucket, and
/// distinct ids (the second of two equal ids must see the result of the first).
pub(super) fn length(commands: &[Command<'_>]) -> usize {
    let mut ids = [0_u64; ORDERS_MAX];
    let mut length = 0;
    let key =
        |command| group_key(command).map(|(script, item_id, at_ms)| (script, item_id, fence_bucket(at_ms)));
    let Some(first) = commands.first().and_then(key) else { return 0 };
    for command in commands.iter().take(ORDERS_MAX) {
        if let Command::Reserve(reserve) = command
            && !(1..=AMOUNT_MAX).contains(&reserve.amount)
        {
            break;
        }
        // Two ids with the same hash only split the group, which costs one more call.
        let id = fingerprint(request_id(command), "", 0);
        if key(command) != Some(first) || ids[..length].contains(&id) {
            break;
        }
        ids[length] = id;
        length += 1;
    }
    length
}

/// Appends one call for all of `commands`, which [`length`] has accepted as one group.
pub(super) fn encode(out: &mut Vec<u8>, commands: &[Command<'_>], shas: &Shas) -> Kind {
    let orders = commands.len();
    let Some((script, item_id, accepted_at_ms)) = commands.first().and_then(group_key) else {
        unreachable!("only commands that `length` accepts are encoded here")
    };
    let (keys, arguments) = match script {
        Script::Reserve => (3, 4),
        Script::Refund => (3, 3),
        _ => (1, 2),
    };
    eval(out, shas, script, keys, arguments * orders);
    if keys == 3 {
        key(out, INVENTORY_PREFIX, item_id);
        ledger_key(out, item_id);
    }
    fence_key(out, item_id, accepted_at_ms);
    for command in commands {
        write_bulk(out, request_id(command).as_bytes());
    }
    // The strings that the scripts compare and write are built here: Lua would do it at several times the
    // cost.
    for command in commands {
        let attempt = Decimal::new(attempt(command));
        match command {
            Command::Reserve(Reserve { amount, .. }) => {
                let amount = Decimal::new(*amount);
                write_bulk_parts(out, &[b"H ", attempt.as_bytes(), b" ", amount.as_bytes()]);
            }
            _ => write_bulk_parts(out, &[b"H ", attempt.as_bytes(), b" "]),
        }
    }
    for command in commands {
        match command {
            Command::Reserve(Reserve { amount, .. }) => write_number(out, *amount),
            Command::Refund(Settle { attempt, origin, .. }) => {
                write_attempt_and_origin(out, b"R ", *attempt, *origin);
            }
            _ => {}
        }
    }
    for command in commands {
        if let Command::Reserve(Reserve { attempt, origin, .. }) = command {
            write_attempt_and_origin(out, b"", *attempt, *origin);
        }
    }
    Kind::EvalMany(script, orders as u32)
}

fn attempt(command: &Command<'_>) -> u32 {
    match *command {
        Command::Reserve(Reserve { attempt, .. })
        | Command::Settle(Settle { attempt, .. })
        | Command::Refund(Settle { attempt, .. }) => attempt,
        _ => 0,
    }
}

/// `<attempt> <partition> <offset>`
fn write_attempt_and_origin(out: &mut Vec<u8>, start: &[u8], attempt: u32, origin: Origin) {
    let (partition, offset) = (Decimal::new(origin.partition), Decimal::new(origin.offset));
    let attempt = Decimal::new(attempt);
    let parts = [start, attempt.as_bytes(), b" ", partition.as_bytes(), b" ", offset.as_bytes()];
    write_bulk_parts(out, &parts);
}

#[cfg(test)]
mod tests {
    use super::*;
    const ORIGIN: Origin = Origin { partition: 0, offset: 0 };

    fn reserve_at<'a>(request_id: &'a str, item_id: &'a str, accepted_at_ms: u64) -> Command<'a> {
        Command::Reserve(Reserve {
            request_id,
            item_id,
            accepted_at_ms,
            amount: 1,
            attempt: 0,
            origin: ORIGIN,
        })
    }

    fn reserve<'a>(request_id: &'a str, item_id: &'a str) -> Command<'a> {
        reserve_at(request_id, item_id, 0)
    }

    fn settle(request_id: &str) -> Command<'_> {
        Command::Settle(Settle { request_id, item_id: "101", accepted_at_ms: 0, attempt: 0, origin: ORIGIN })
    }

    #[test]
    fn a_group_ends_at_a_different_item_bucket_or_kind_or_a_repeated_id() {
        assert_eq!(
            length(&[reserve_at("a", "101", 0), reserve_at("b", "101", crate::command::FENCE_BUCKET_MS)]),
            1
        );
        assert_eq!(length(&[reserve("a", "101"), reserve("b", "101"), reserve("c", "102")]), 2);
        assert_eq!(length(&[reserve("a", "101"), reserve("b", "101"), reserve("a", "101")]), 2);
        assert_eq!(length(&[reserve("a", "101"), settle("a")]), 1);
        assert_eq!(length(&[settle("a"), settle("b"), reserve("a", "101")]), 2);
        assert_eq!(length(&[Command::Ping, Command::Ping]), 0);
        let ids: Vec<String> = (0..ORDERS_MAX + 5).map(|number| number.to_string()).collect();
        let many: Vec<Command<'_>> = ids.iter().map(|id| reserve(id, "101")).collect();
        assert_eq!(length(&many), ORDERS_MAX);
    }
}
