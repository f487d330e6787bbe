//! Compares our parser with others on the same bodies: each turns received bytes into a valid order.
//!
//! Each parser gets the body in a writable buffer into which it was just copied (as a read from a socket does; simd-json and
//! our parser write into it). All parse into borrowed strings, reject a duplicate field, ignore unknown fields and apply the
//! rules of the fields. The others use serde, into `Fields`. Ours additionally keeps the original bytes, to parse a
//! rejected body a second time.

use std::borrow::Cow;
use std::hint::black_box;

use serde::Deserialize;
use simd_json::Buffers;
use wire::order;
use wire::order_json::{OrderReader, PADDING_BYTES};

use crate::orders::{self, BODY_BYTES, COUNT};
use crate::{Meter, Stage};

/// The candidates. Our own parser is the stage `parse_json` of the request path.
pub const PARSERS: &[Stage] = &[
    Stage::timed("json_copy_alone", copy_alone),
    Stage::timed("json_simd_json", simd_json_typed),
    Stage::timed("json_sonic_rs", sonic_typed),
    Stage::timed("json_serde_json", serde_json_typed),
];

/// An order as deserialized by serde.
#[derive(Debug, Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    amount: u32,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
}

/// Calls `read` with each body, copied into a buffer with padding at the end.
fn with_bodies(meter: Meter<'_>, mut read: impl FnMut(&mut [u8])) {
    let bodies = orders::each(|number| orders::body(number).into_bytes());
    let mut buffer = vec![0_u8; BODY_BYTES + PADDING_BYTES];
    meter(&mut |number| {
        buffer[..BODY_BYTES].copy_from_slice(black_box(&bodies[number % COUNT]));
        read(black_box(&mut buffer));
    });
}

fn is_valid(record: &Fields<'_>) -> bool {
    order::check_id(&record.user_id).is_ok()
        && order::check_id(&record.item_id).is_ok()
        && order::check_amount(i128::from(record.amount)).is_ok()
        && order::check_request_id(&record.request_id).is_ok()
}

/// The production parser.
pub(crate) fn ours(meter: Meter<'_>) {
    let mut reader = OrderReader::default();
    with_bodies(meter, |buffer| {
        let order = reader.read(buffer, orders::whole_body());
        debug_assert!(order.is_ok(), "{order:?}");
        black_box(&order);
    });
}

/// The copy alone, which is part of every candidate's work.
fn copy_alone(meter: Meter<'_>) {
    with_bodies(meter, |buffer| {
        black_box(buffer);
    });
}

fn check<E>(read: Result<Fields<'_>, E>) {
    let record = read.ok().filter(is_valid);
    debug_assert!(record.is_some(), "every body is a valid order");
    black_box(&record);
}

/// simd-json with serde and reused buffers.
fn simd_json_typed(meter: Meter<'_>) {
    let mut buffers = Buffers::new(1024);
    with_bodies(meter, |buffer| {
        let mut read =
            simd_json::Deserializer::from_slice_with_buffers(&mut buffer[..BODY_BYTES], &mut buffers);
        check(read.as_mut().map_err(drop).and_then(|read| Fields::deserialize(read).map_err(drop)));
    });
}

/// sonic-rs with serde.
fn sonic_typed(meter: Meter<'_>) {
    with_bodies(meter, |buffer| check(sonic_rs::from_slice::<Fields<'_>>(&buffer[..BODY_BYTES])));
}

/// `serde_json`.
fn serde_json_typed(meter: Meter<'_>) {
    with_bodies(meter, |buffer| check(serde_json::from_slice::<Fields<'_>>(&buffer[..BODY_BYTES])));
}
