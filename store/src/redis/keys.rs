//! Keys of the contract and the head of a script call, appended to a buffer.

use wire::names::{FENCE_PREFIX, LEDGER_PREFIX, TAG_END};
use wire::resp::{Decimal, write_array, write_bulk_parts, write_number};

use super::scripts::{Script, Shas};
use crate::fence_bucket;

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
