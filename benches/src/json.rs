//! Our parser beside others, on the same bodies: each makes an order that keeps the rules out of bytes that were just
//! received.
//!
//! All are given the body in a buffer they may write to, copied there anew (as a read from a socket does; simd-json and
//! our parser write into it), all read into borrowed texts, refuse a field given twice and ignore unknown ones, and all
//! apply the rules of the fields. The others do it by serde, into [`Fields`]. Ours keeps more: the bytes as they came, for
//! the second look at a refused body.

use std::borrow::Cow;
use std::hint::black_box;

use serde::Deserialize;
use simd_json::Buffers;
use wire::order;
use wire::order_json::{OrderReader, PADDING_BYTES};

use crate::orders::{self, BODY_BYTES, COUNT};
use crate::stations::{timed, whole_body};
use crate::{Meter, Station};

/// Ours is `parse_json` of the road.
pub const CONTESTANTS: &[Station] = &[
    timed("json_copy_alone", copy_alone),
    timed("json_simd_json", simd_json_typed),
    timed("json_sonic_rs", sonic_typed),
    timed("json_serde_json", serde_json_typed),
];

/// An order as serde reads it.
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

/// Gives `read` each body in a buffer of its own that ends with the padding.
fn with_bodies(meter: Meter<'_>, mut read: impl FnMut(&mut [u8])) {
    let bodies = orders::each(|number| orders::body(number).into_bytes());
    let mut buffer = vec![0_u8; BODY_BYTES + PADDING_BYTES];
    meter(&mut |number| {
        buffer[..BODY_BYTES].copy_from_slice(black_box(&bodies[number % COUNT]));
        read(black_box(&mut buffer));
    });
}

fn keeps_the_rules(record: &Fields<'_>) -> bool {
    order::check_id(&record.user_id).is_ok()
        && order::check_id(&record.item_id).is_ok()
        && order::check_amount(i128::from(record.amount)).is_ok()
        && order::check_request_id(&record.request_id).is_ok()
}

/// The production parser.
pub(crate) fn ours(meter: Meter<'_>) {
    let mut reader = OrderReader::default();
    with_bodies(meter, |buffer| {
        let order = reader.read(buffer, whole_body());
        debug_assert!(order.is_ok(), "{order:?}");
        black_box(&order);
    });
}

/// What every contestant does besides.
fn copy_alone(meter: Meter<'_>) {
    with_bodies(meter, |buffer| {
        black_box(buffer);
    });
}

fn judged<E>(read: Result<Fields<'_>, E>) {
    let record = read.ok().filter(keeps_the_rules);
    debug_assert!(record.is_some(), "every body is an order");
    black_box(&record);
}

/// simd-json by serde, with kept buffers.
fn simd_json_typed(meter: Meter<'_>) {
    let mut buffers = Buffers::new(1024);
    with_bodies(meter, |buffer| {
        let mut read =
            simd_json::Deserializer::from_slice_with_buffers(&mut buffer[..BODY_BYTES], &mut buffers);
        judged(read.as_mut().map_err(drop).and_then(|read| Fields::deserialize(read).map_err(drop)));
    });
}

/// sonic-rs by serde.
fn sonic_typed(meter: Meter<'_>) {
    with_bodies(meter, |buffer| judged(sonic_rs::from_slice::<Fields<'_>>(&buffer[..BODY_BYTES])));
}

/// `serde_json`.
fn serde_json_typed(meter: Meter<'_>) {
    with_bodies(meter, |buffer| judged(serde_json::from_slice::<Fields<'_>>(&buffer[..BODY_BYTES])));
}
