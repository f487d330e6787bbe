//! Encodes commands as Redis commands or script calls, with their keys and arguments.

use wire::names::{INVENTORY_PREFIX, ORDER_STATUS_PREFIX, RATELIMIT_PREFIX, WATERMARK_PREFIX};
use wire::resp::{write_array, write_bulk, write_command, write_number};

use super::keys::{eval, fence_key, key, ledger_key};
use super::reply_kind::{Internal, Kind};
use super::scripts::{Script, Shas};
use super::{group, status};
use crate::{Command, Import, Policy};

/// Key prefix of version 0.1 for an order's units.
const RESERVATION_PREFIX: &str = "reservation:";

/// Appends a command to `out`.
pub(super) fn encode(out: &mut Vec<u8>, command: &Command<'_>, shas: &Shas, policy: &Policy) -> Kind {
    match *command {
        Command::Admit(_) | Command::Release(_) => unreachable!("made of steps by `admission`"),
        Command::Suspend(ref admission_key) => {
            eval(out, shas, Script::Suspend, 1, 2);
            key(out, ORDER_STATUS_PREFIX, admission_key.request_id);
            write_bulk(out, admission_key.owner.as_bytes());
            write_number(out, admission_key.sequence);
            Kind::Eval(Script::Suspend)
        }
        Command::Confirm(ref confirm) => {
            write_array(out, 4);
            write_bulk(out, b"PSETEX");
            key(out, WATERMARK_PREFIX, confirm.owner);
            write_number(out, policy.watermark_ttl_ms());
            write_number(out, confirm.sequence);
            Kind::Done
        }
        Command::Reserve(_) | Command::Settle(_) | Command::Refund(_) => {
            group::encode(out, &[*command], shas)
        }
        Command::Claim(ref claim) => status::claim(out, claim, policy),
        Command::WriteStatus(ref status) => status::write(out, status, shas, policy),
        Command::Import(Import { request_id, item_id, accepted_at_ms }) => {
            eval(out, shas, Script::Import, 2, 2);
            key(out, RESERVATION_PREFIX, request_id);
            fence_key(out, item_id, accepted_at_ms);
            write_bulk(out, request_id.as_bytes());
            write_bulk(out, item_id.as_bytes());
            Kind::Eval(Script::Import)
        }
        Command::Status { request_id } => {
            write_array(out, 2);
            write_bulk(out, b"GET");
            key(out, ORDER_STATUS_PREFIX, request_id);
            Kind::Status
        }
        Command::Statuses { request_ids } => {
            mget(out, ORDER_STATUS_PREFIX, request_ids);
            Kind::Statuses(request_ids.len() as u32)
        }
        Command::Stock { items } => {
            mget(out, INVENTORY_PREFIX, items);
            Kind::Stock(items.len() as u32)
        }
        Command::SetStock { item_id, units } => change_stock(out, item_id, units, shas, Script::SetStock),
        Command::AddStock { item_id, units } => change_stock(out, item_id, units, shas, Script::AddStock),
        Command::Ledgers { items } => {
            eval(out, shas, Script::Ledgers, items.len(), 0);
            for item_id in items {
                ledger_key(out, item_id);
            }
            Kind::Ledgers(items.len() as u32)
        }
        Command::Ping => {
            write_command(out, &[b"PING"]);
            Kind::Done
        }
    }
}

/// Appends an internal command without further arguments, or one to load a script.
pub(super) fn encode_internal(out: &mut Vec<u8>, internal: Internal, policy: &Policy) -> Kind {
    match internal {
        Internal::Load(script) | Internal::Reload(script) => {
            write_command(out, &[b"SCRIPT", b"LOAD", script.source(policy).as_bytes()]);
        }
        // Writes nothing to a key that cannot exist (no id is empty). It changes nothing, but a replica, a
        // server out of memory and one that cannot save reject it as they would reject an order.
        Internal::Probe => write_command(out, &[b"SETRANGE", ORDER_STATUS_PREFIX.as_bytes(), b"0", b""]),
        Internal::Identify => write_command(out, &[b"INFO", b"server", b"replication"]),
        Internal::Auth | Internal::Select | Internal::ProbeSteps(..) => {
            unreachable!("written with their arguments by the link")
        }
    }
    Kind::Internal(internal)
}

/// Appends the probe of a role. It uses the keys of orders, with an id that no order has.
pub(super) fn encode_probe(out: &mut Vec<u8>, script: Script, is_handshake: bool, shas: &Shas) -> Kind {
    const GATEWAY: [&str; 4] = [RATELIMIT_PREFIX, ORDER_STATUS_PREFIX, WATERMARK_PREFIX, INVENTORY_PREFIX];
    eval(out, shas, script, 4, 1);
    if script == Script::ProbeGateway {
        for prefix in GATEWAY {
            key(out, prefix, "");
        }
    } else {
        key(out, ORDER_STATUS_PREFIX, "");
        key(out, INVENTORY_PREFIX, "");
        ledger_key(out, "");
        fence_key(out, "", 0);
    }
    write_number(out, u32::from(is_handshake));
    Kind::Internal(Internal::ProbeSteps(script, is_handshake))
}

fn change_stock(out: &mut Vec<u8>, item_id: &str, units: u64, shas: &Shas, script: Script) -> Kind {
    eval(out, shas, script, 2, 1);
    key(out, INVENTORY_PREFIX, item_id);
    ledger_key(out, item_id);
    write_number(out, units);
    Kind::Eval(script)
}

/// MGET of all names. Without a name it would be an error, so a key that never exists is requested instead.
fn mget(out: &mut Vec<u8>, prefix: &str, names: &[&str]) {
    write_array(out, 1 + names.len().max(1));
    write_bulk(out, b"MGET");
    for name in names {
        key(out, prefix, name);
    }
    if names.is_empty() {
        key(out, prefix, "");
    }
}
