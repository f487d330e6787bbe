//! A command as bytes: which script or command of Redis it is, and its keys and arguments.

use wire::names::{
    FENCE_PREFIX, INVENTORY_PREFIX, LEDGER_PREFIX, ORDER_STATUS_PREFIX, RATELIMIT_PREFIX, TAG_END,
    WATERMARK_PREFIX,
};
use wire::resp::{Decimal, write_array, write_bulk, write_bulk_parts, write_command, write_number};

use super::scripts::{Script, Shas};
use super::{group, status};
use crate::{Command, Import, Policy, fence_bucket};

/// What version 0.1 kept of an order's units.
const RESERVATION_PREFIX: &str = "reservation:";

/// What the reply will be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reply of a script.
    Eval(Script),
    /// An array of such replies, one an order.
    EvalMany(Script, u32),
    /// The value of an id before it was claimed, if it had one.
    Claim {
        fingerprint: u64,
        accepted_at_ms: u64,
    },
    /// A `SET … NX`: whether it did.
    IsSet,
    /// A text, or none.
    Text,
    Number,
    /// OK, and nothing else.
    Done,
    Status,
    /// How many were asked for.
    Statuses(u32),
    Stock(u32),
    Ledgers(u32),
    Own(Own),
}

/// What a connection asks for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Auth,
    Select,
    /// In the handshake.
    Load(Script),
    /// After NOSCRIPT.
    Reload(Script),
    /// INFO: `run_id` changes at a restart, `master_replid` at a promotion. For a processor.
    Identify,
    /// Does it take writes? For tools, which have no orders.
    Probe,
    /// Could every step of this role be carried out? The script, and whether it is the handshake's.
    ProbeSteps(Script, bool),
}

impl Kind {
    /// Commands that this reply answers.
    pub(super) fn commands(self) -> u32 {
        if let Self::EvalMany(_, orders) = self { orders } else { 1 }
    }

    /// The script that must be loaded for it.
    pub(super) fn script(self) -> Option<Script> {
        match self {
            Self::Eval(script) | Self::EvalMany(script, _) => Some(script),
            Self::Ledgers(_) => Some(Script::Ledgers),
            _ => None,
        }
    }
}

/// Appends a command to `out`.
pub(super) fn encode(out: &mut Vec<u8>, command: &Command<'_>, shas: &Shas, policy: &Policy) -> Kind {
    match *command {
        Command::Admit(_) | Command::Release(_) => unreachable!("made of steps by `admission`"),
        Command::Suspend(ref retract) => {
            eval(out, shas, Script::Suspend, 1, 2);
            key(out, ORDER_STATUS_PREFIX, retract.request_id);
            write_bulk(out, retract.owner.as_bytes());
            write_number(out, retract.sequence);
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

/// Appends a command of the connection's own without further arguments, or one to load a script.
pub(super) fn encode_own(out: &mut Vec<u8>, own: Own, policy: &Policy) -> Kind {
    match own {
        Own::Load(script) | Own::Reload(script) => {
            write_command(out, &[b"SCRIPT", b"LOAD", script.source(policy).as_bytes()]);
        }
        // A write of nothing to a key that cannot be there (no id is empty): it changes nothing, but a
        // replica, a server out of memory and one that cannot save refuse it as they would refuse an order.
        Own::Probe => write_command(out, &[b"SETRANGE", ORDER_STATUS_PREFIX.as_bytes(), b"0", b""]),
        Own::Identify => write_command(out, &[b"INFO", b"server", b"replication"]),
        Own::Auth | Own::Select | Own::ProbeSteps(..) => {
            unreachable!("written with their arguments by the link")
        }
    }
    Kind::Own(own)
}

/// Appends the probe of a role: its keys are those of orders, with an id that nobody has.
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
    Kind::Own(Own::ProbeSteps(script, is_handshake))
}

/// `stock_ledger:{inventory:<item>}`
pub(super) fn ledger_key(out: &mut Vec<u8>, item_id: &str) {
    write_bulk_parts(out, &[LEDGER_PREFIX.as_bytes(), item_id.as_bytes(), TAG_END.as_bytes()]);
}

/// `fence:{inventory:<item>}:<bucket>`
pub(super) fn fence_key(out: &mut Vec<u8>, item_id: &str, accepted_at_ms: u64) {
    let bucket = Decimal::new(fence_bucket(accepted_at_ms));
    let parts = [FENCE_PREFIX.as_bytes(), item_id.as_bytes(), TAG_END.as_bytes(), b":", bucket.as_bytes()];
    write_bulk_parts(out, &parts);
}

fn change_stock(out: &mut Vec<u8>, item_id: &str, units: u64, shas: &Shas, script: Script) -> Kind {
    eval(out, shas, script, 2, 1);
    key(out, INVENTORY_PREFIX, item_id);
    ledger_key(out, item_id);
    write_number(out, units);
    Kind::Eval(script)
}

/// MGET of many; of none it would be an error, so a key that nobody has is asked for instead.
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

pub(super) fn eval(out: &mut Vec<u8>, shas: &Shas, script: Script, keys: usize, arguments: usize) {
    write_array(out, 3 + keys + arguments);
    out.extend_from_slice(b"$7\r\nEVALSHA\r\n$40\r\n");
    out.extend_from_slice(shas.of(script));
    out.extend_from_slice(b"\r\n");
    write_number(out, keys as u64);
}

pub(super) fn key(out: &mut Vec<u8>, prefix: &str, name: &str) {
    write_bulk_parts(out, &[prefix.as_bytes(), name.as_bytes()]);
}

pub(super) fn hex16(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(number >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_sixteen_hex_digits() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(hex16(number), *format!("{number:016x}").as_bytes());
        }
    }
}
