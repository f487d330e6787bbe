//! The request path of an accepted order, stage by stage.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gateway::bench::{CorrelationIds, encode_record};
use gateway::gates::{Limited, SoldOut};
use gateway::metrics::{Counter, GatewayCells, REQUEST_DURATION};
use gateway::order::Order;
use gateway::outcome::Outcome;
use gateway::reply::{BodyContext, body, response_row};
use gateway::sequences::Sequences;
use shard::log::{CoreLog, Level, Sink};
use store::redis::bench::Codec;
use store::{Admit, Policy};
use wire::http1::{Parsed, RequestReader};
use wire::order;
use wire::reply::{Connection, JSON, ReplyHead};

use crate::orders::{self, COUNT, Fields};
use crate::{Meter, Stage, handoff, json};

/// The stages in the order of the request path.
pub const REQUEST_PATH: &[Stage] = &[
    Stage::timed("parse_head", parse_head),
    Stage::timed("parse_json", json::ours),
    Stage::timed("validate", validate),
    Stage::timed("correlation_id", correlation_id),
    Stage::timed("gates", gates),
    Stage::timed("sequence", sequence),
    Stage::timed("fingerprint", fingerprint),
    Stage::timed("admit_encode", admit_encode),
    Stage::timed("reply_decode", reply_decode),
    Stage::timed("record_encode", record_encode),
    Stage { name: "hand_over", run: handoff::hand_over, is_timed: false },
    Stage::timed("reply_encode", reply_encode),
    Stage::timed("observe", observe),
    // Its buffers come back from the writer thread, so its time depends on that thread as well.
    Stage { name: "log_line", run: log_line, is_timed: false },
];

/// Acceptance time of the records: any time with thirteen digits.
const ACCEPTED_AT_MS: u64 = 1_764_453_360_007;
const CORRELATION_ID: &str = "c0ffee00-0000-4000-8000-000000000042";

/// HTTP framing: the head, and the position of the body.
fn parse_head(meter: Meter<'_>) {
    let mut requests = orders::each(|number| orders::request(number).into_bytes());
    let mut reader = RequestReader::default();
    meter(&mut |number| {
        let parsed = reader.advance(black_box(&mut requests[number % COUNT]));
        debug_assert!(matches!(parsed, Parsed::Complete(_)), "{parsed:?}");
        black_box(&parsed);
    });
}

/// Validates the four fields; also part of `parse_json`.
fn validate(meter: Meter<'_>) {
    let orders = orders::each(orders::fields);
    meter(&mut |number| {
        let Fields { user_id, item_id, request_id } = black_box(&orders[number % COUNT]);
        let is_good = order::check_id(user_id).is_ok()
            && order::check_id(item_id).is_ok()
            && order::check_amount(black_box(1)).is_ok()
            && order::check_request_id(request_id).is_ok();
        debug_assert!(is_good, "the orders are valid");
        black_box(is_good);
    });
}

/// Generates a correlation id, for a buyer who sends none.
fn correlation_id(meter: Meter<'_>) {
    let ids = CorrelationIds::default();
    meter(&mut |_| {
        black_box(ids.next_id());
    });
}

/// Both gates, open, with a hundred known items and a hundred known users. The hash tables use random seeds, and an unlucky
/// seed for a key costs some tens of instructions; averaging over tables with many seeds keeps the mean stable.
fn gates(meter: Meter<'_>) {
    let now = Instant::now();
    let mut tables = orders::each(|_| (SoldOut::default(), Limited::default()));
    for (sold_out, limited) in &mut tables {
        for number in 0..100 {
            sold_out.is_sold_out(&format!("item-{number:05}"), now);
            limited.refuse(&format!("other-{number:014}"), Duration::from_mins(1), now);
        }
    }
    let orders = orders::each(orders::fields);
    meter(&mut |number| {
        let Fields { user_id, item_id, .. } = black_box(&orders[number % COUNT]);
        // Pairs each order with another table in each round.
        let (sold_out, limited) = &mut tables[(number + number / COUNT) % COUNT];
        black_box(sold_out.is_sold_out(item_id, now));
        black_box(limited.remaining_wait(user_id, now));
    });
}

/// The sequence number of an admission: taken and resolved.
fn sequence(meter: Meter<'_>) {
    let sequences = Sequences::new("0123456789abcdefc00".to_owned());
    meter(&mut |_| {
        if let Some(sequence) = black_box(&sequences).begin() {
            black_box(sequence.number());
            sequence.resolve();
        }
    });
}

/// The fingerprint, which distinguishes different orders with the same request id.
fn fingerprint(meter: Meter<'_>) {
    let orders = orders::each(orders::fields);
    meter(&mut |number| {
        let Fields { user_id, item_id, .. } = black_box(&orders[number % COUNT]);
        black_box(order::fingerprint(user_id, item_id, black_box(1)));
    });
}

fn codec() -> Codec {
    Codec::new(Policy {
        rate_limit_max_requests: 60,
        rate_limit_window_ms: 60_000,
        order_status_ttl_ms: 86_400_000,
        takeover_after_ms: 2250,
    })
}

/// Encodes both commands of an admission.
fn admit_encode(meter: Meter<'_>) {
    let (codec, orders, mut out) = (codec(), orders::each(orders::fields), Vec::new());
    meter(&mut |number| {
        let Fields { user_id, request_id, .. } = black_box(&orders[number % COUNT]);
        let admit = Admit {
            user_id,
            request_id,
            fingerprint: 0x0123_4567_89ab_cdef,
            correlation_id: CORRELATION_ID,
            owner: "0123456789abcdefc00",
            sequence: 1_000_000 + (number % COUNT) as u64,
            accepted_at_ms: 1_764_453_360_000 + number as u64,
        };
        out.clear();
        codec.encode(&admit, &mut out);
        black_box(&out);
    });
}

/// Decodes the replies when both keys were set.
fn reply_decode(meter: Meter<'_>) {
    let codec = codec();
    meter(&mut |_| {
        black_box(codec.is_admitted(black_box(b"+OK\r\n$-1\r\n")));
    });
}

fn order_of(fields: &Fields, began: Instant) -> Order<'_> {
    Order {
        user_id: &fields.user_id,
        item_id: &fields.item_id,
        amount: 1,
        request_id: &fields.request_id,
        correlation_id: CORRELATION_ID,
        traceparent: None,
        started_at: began,
    }
}

/// Encodes the value of the record.
fn record_encode(meter: Meter<'_>) {
    let (orders, mut value, began) = (orders::each(orders::fields), Vec::new(), Instant::now());
    meter(&mut |number| {
        value.clear();
        encode_record(&order_of(black_box(&orders[number % COUNT]), began), ACCEPTED_AT_MS, &mut value);
        black_box(&value);
    });
}

/// Response 202: table row, body and head.
fn reply_encode(meter: Meter<'_>) {
    let (mut text, mut out) = (Vec::new(), Vec::new());
    meter(&mut |number| {
        let outcome = black_box(Outcome::Queued);
        let row = response_row(&outcome, number as u64);
        let context =
            BodyContext { correlation_id: CORRELATION_ID, item_id: "item-00101", processing_time_ms: 3 };
        text.clear();
        out.clear();
        body(&outcome, &context, row.retry_after_s, &mut text);
        let head = ReplyHead {
            status: row.status,
            date: "Sat, 29 Nov 2025 21:56:00 GMT",
            content_type: JSON,
            correlation_id: context.correlation_id,
            retry_after_s: row.retry_after_s,
            extra: row.extra,
            connection: Connection::Stays,
            is_head: false,
        };
        head.write(&text, &mut out);
        black_box(&out);
    });
}

/// Updates two counters and the histogram.
fn observe(meter: Meter<'_>) {
    let cells = GatewayCells::default();
    meter(&mut |_| {
        let cells = black_box(&cells);
        cells.counters[Counter::Received as usize].add(1);
        cells.counters[Counter::Successful as usize].add(1);
        cells.durations[REQUEST_DURATION].observe_us(black_box(3_000));
    });
}

/// The log line of an accepted order, with its share of the hand-over to the writer; all lines have the same timestamp.
fn log_line(meter: Meter<'_>) {
    let Ok((sink, _writer)) = Sink::start("gateway", Level::Info, std::io::sink()) else { return };
    let (log, orders) = (CoreLog::new(sink), orders::each(orders::fields));
    meter(&mut |number| {
        let Fields { user_id, item_id, request_id } = black_box(&orders[number % COUNT]);
        log.line_at(ACCEPTED_AT_MS, Level::Info, "order_queued", "Order queued successfully", |line| {
            line.text("correlation_id", CORRELATION_ID)
                .text("user_id", user_id)
                .text("item_id", item_id)
                .text("request_id", request_id)
                .number("processing_time_ms", 3);
        });
    });
}
