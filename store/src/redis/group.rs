//! Steps that stand side by side in one `ask_all`, in one script call: reservations of one item, settlements, refunds
//! of one item.
//!
//! The script does what its single form does for each order in turn, with one look at all keys and one change of the
//! stock. Measured by `cargo xtask perf processor`; the single form stays for steps that come alone.

use wire::names::{INVENTORY_PREFIX, LEDGER_PREFIX, ORDER_STATUS_PREFIX, RESERVATION_PREFIX};
use wire::order::{AMOUNT_MAX, fingerprint};
use wire::resp::{Decimal, write_bulk, write_bulk_parts, write_number};

use super::encode::{Kind, eval, key};
use super::scripts::{Script, Shas};
use crate::{Command, Origin};

/// Orders in one call. Redis serves nobody else meanwhile: 64 take it half a millisecond; twice as many would save
/// another hundredth.
pub(super) const ORDERS_MAX: usize = 64;

/// How many commands at the front one script can serve: of one kind, of one item where stock is moved, under ids that
/// differ (the second of two equal ones must see what became of the first).
pub(super) fn length(commands: &[Command<'_>]) -> usize {
    let mut ids = [0_u64; ORDERS_MAX];
    let mut length = 0;
    for command in commands.iter().take(ORDERS_MAX) {
        let request_id = match (*command, commands[0]) {
            (Command::Reserve(wish), Command::Reserve(first))
                if wish.item_id == first.item_id && (1..=AMOUNT_MAX).contains(&wish.amount) =>
            {
                wish.request_id
            }
            (Command::Settle(settle), Command::Settle(_)) => settle.request_id,
            (Command::Refund(refund), Command::Refund(first)) if refund.item_id == first.item_id => {
                refund.request_id
            }
            _ => break,
        };
        // Two ids of the same hash part the group, which costs a call and nothing else.
        let id = fingerprint(request_id, "", 0);
        if ids[..length].contains(&id) {
            break;
        }
        ids[length] = id;
        length += 1;
    }
    length
}

/// Appends one call for all of `commands`, which [`length`] has counted.
pub(super) fn encode(out: &mut Vec<u8>, commands: &[Command<'_>], shas: &Shas) -> Kind {
    let orders = commands.len();
    // The item whose stock is moved.
    let (script, item_id, keys, arguments) = match commands.first() {
        Some(Command::Reserve(wish)) => {
            (Script::ReserveMany, Some(wish.item_id), 2 * orders + 2, 3 * orders + 1)
        }
        Some(Command::Refund(refund)) => {
            (Script::RefundMany, Some(refund.item_id), 2 * orders + 2, 2 * orders + 1)
        }
        _ => (Script::SettleMany, None, 2 * orders, 2 * orders),
    };
    eval(out, shas, script, keys, arguments);
    for command in commands {
        if let Command::Reserve(crate::Reserve { request_id, .. })
        | Command::Settle(crate::Settle { request_id, .. })
        | Command::Refund(crate::Settle { request_id, .. }) = command
        {
            key(out, ORDER_STATUS_PREFIX, request_id);
            key(out, RESERVATION_PREFIX, request_id);
        }
    }
    if let Some(item_id) = item_id {
        key(out, INVENTORY_PREFIX, item_id);
        key(out, LEDGER_PREFIX, item_id);
    }
    for command in commands {
        match command {
            Command::Reserve(wish) => {
                write_number(out, u64::from(wish.amount));
                write_number(out, wish.attempt);
                origin(out, wish.origin);
            }
            Command::Refund(refund) => {
                write_number(out, refund.attempt);
                origin(out, refund.origin);
            }
            Command::Settle(settle) => {
                write_number(out, settle.attempt);
                write_bulk(out, settle.item_id.as_bytes());
            }
            _ => {}
        }
    }
    if let Some(item_id) = item_id {
        write_bulk(out, item_id.as_bytes());
    }
    Kind::EvalMany(script, orders as u32)
}

fn origin(out: &mut Vec<u8>, origin: Origin) {
    let (partition, offset) = (Decimal::new(origin.partition), Decimal::new(origin.offset));
    write_bulk_parts(out, &[partition.as_bytes(), b" ", offset.as_bytes()]);
}

/// How each of a group's replies is read.
pub(super) fn of_one(script: Script) -> Kind {
    Kind::Eval(match script {
        Script::ReserveMany => Script::Reserve,
        Script::RefundMany => Script::Refund,
        _ => Script::Settle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reserve, Settle};

    const ORIGIN: Origin = Origin { partition: 0, offset: 0 };

    fn reserve<'a>(request_id: &'a str, item_id: &'a str) -> Command<'a> {
        Command::Reserve(Reserve { request_id, item_id, amount: 1, attempt: 0, origin: ORIGIN })
    }

    fn settle(request_id: &str) -> Command<'_> {
        Command::Settle(Settle { request_id, item_id: "101", attempt: 0, origin: ORIGIN })
    }

    #[test]
    fn a_group_ends_at_another_item_kind_or_an_id_it_has() {
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
