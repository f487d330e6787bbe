//! One connection: reads requests and writes responses in the order of the requests.
//!
//! All requests of one read are processed concurrently and their responses are sent in one write. A connection reads
//! again only after that write, so its memory is bounded: one read buffer of `BUFFER_BYTES_MAX` and the responses to
//! `PIPELINE_MAX` requests. There is no timer per read: the core's sweep checks [`crate::connections::Register`] and
//! shuts down sockets that exceed a time limit.

use std::rc::Rc;
use std::time::Instant;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use shard::cells::PAGE_CONTENT_TYPE;
use shard::join::all;
use shard::log::Level;
use store::StoreSteps;
use wire::chunked;
use wire::http1::{self, Parsed, Refusal, Request, RequestReader, Span};
use wire::names::Status;
use wire::order_json::PADDING_BYTES;
use wire::reply::{self, Connection, ReplyHead};
use wire::uuid::UUID_CHARS;

use crate::answer::Answer;
use crate::connections::{Activity, ConnectionState};
use crate::core::Core;
use crate::metrics::{Counter, REQUEST_DURATION};
use crate::order::{Order, place};
use crate::outcome::Outcome;
use crate::reply::{BodyContext, body, response_row};
use crate::route::{Route, route};
use crate::sockets;

/// Initial buffer of a connection: an order with headers is 200 to 400 bytes, and an idle connection holds only this.
const BUFFER_BYTES_FIRST: usize = 2048;
/// Maximum buffer: request line, headers and a chunked body at their limits, and the padding that simd-json reads.
const BUFFER_BYTES_MAX: usize =
    http1::LINE_BYTES_MAX + http1::HEADERS_BYTES_MAX + chunked::WIRE_BYTES_MAX + 64 + PADDING_BYTES;
/// Requests of one read that are processed concurrently; further ones wait in the buffer for the next round.
const PIPELINE_MAX: usize = 64;
/// Closing a socket with unread bytes sends a reset, which could destroy the response before the client has read it. So
/// before closing, bytes that the client still sends are read and discarded, up to this amount and for at most
/// `LINGER_TIME_MAX`.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Removes a connection from the register before its socket is closed, even after a panic.
struct Registered {
    core: Rc<Core>,
    slot: usize,
    state: Rc<ConnectionState>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.core.connections.borrow_mut().remove(self.slot);
    }
}

/// A request that is being processed.
struct Exchange {
    route: Route,
    correlation: Correlation,
    traceparent: Option<Span>,
    connection: Connection,
    is_head: bool,
}

enum Correlation {
    Given(Span),
    Generated([u8; UUID_CHARS]),
}

impl Correlation {
    fn text<'a>(&'a self, buffer: &'a [u8]) -> &'a str {
        match self {
            Self::Given(span) => span.text(buffer),
            Self::Generated(uuid) => std::str::from_utf8(uuid).unwrap_or_default(),
        }
    }
}

/// Serves a connection until it ends. `stream` is dropped, and its socket closed, when this returns.
pub async fn serve(core: Rc<Core>, mut stream: TcpStream) {
    let registered = {
        let (slot, state) = core.connections.borrow_mut().add(sockets::descriptor(&stream));
        Registered { core: Rc::clone(&core), slot, state }
    };
    let state = &registered.state;
    let mut buffer = vec![0_u8; BUFFER_BYTES_FIRST].into_boxed_slice();
    // Invariant: buffer[..filled] was received and not yet answered; the last PADDING_BYTES stay free for
    // simd-json.
    let mut filled = 0;
    let mut reader = RequestReader::default();
    let mut exchanges = Vec::new();
    loop {
        let TakenRequests { consumed, refused } =
            take_requests(&core, &mut reader, &mut buffer, filled, &mut exchanges);
        if !exchanges.is_empty() || refused.is_some() {
            let closes = refused.is_some()
                || exchanges.last().is_some_and(|last| last.connection == Connection::Closes);
            state.enter(Activity::Working);
            let mut out = core.take_buffer();
            answer_all(&core, &buffer, &exchanges, &mut out).await;
            if let Some(refused) = refused {
                core.count(Counter::FramingRefused);
                write_refusal(&core, refused, &mut out);
            }
            exchanges.clear();
            state.enter(Activity::Writing);
            let (written, out) = stream.write_all(out).await;
            core.give_buffer(out);
            if written.is_err() {
                return;
            }
            if closes {
                state.enter(Activity::Lingering);
                linger(&mut stream, buffer).await;
                return;
            }
            buffer.copy_within(consumed..filled, 0);
            filled -= consumed;
            state.enter(if filled > 0 { Activity::Reading } else { Activity::Idle });
            continue;
        }
        if reader.waits_for_body().is_some_and(|head| head.expects_continue) {
            reader.mark_continue_sent();
            if stream.write_all(reply::CONTINUE).await.0.is_err() {
                return;
            }
        }
        if filled + PADDING_BYTES >= buffer.len() {
            buffer = grown(&buffer, filled);
        }
        let room = buffer.len() - PADDING_BYTES;
        let (read, slice) = stream.read(buffer.slice_mut(filled..room)).await;
        buffer = slice.into_inner();
        match read {
            Ok(count) if count > 0 => {
                if filled == 0 {
                    state.enter(Activity::Reading);
                }
                filled += count;
                core.overload.read(state.fd);
            }
            _ if state.is_too_slow.get() => {
                let mut out = core.take_buffer();
                core.count(Counter::FramingRefused);
                write_refusal(&core, Refusal::TooSlow, &mut out);
                state.enter(Activity::Writing);
                // The client may have disconnected; the connection ends either way.
                let _ = stream.write_all(out).await;
                return;
            }
            _ => return,
        }
    }
}

fn grown(buffer: &[u8], filled: usize) -> Box<[u8]> {
    let len = (buffer.len() * 2).min(BUFFER_BYTES_MAX);
    let mut larger = vec![0_u8; len].into_boxed_slice();
    larger[..filled].copy_from_slice(&buffer[..filled]);
    larger
}

struct TakenRequests {
    /// Length of the collected requests in bytes.
    consumed: usize,
    /// Why the connection must end, if it must.
    refused: Option<Refusal>,
}

/// Takes all complete requests at the start of the buffer, up to one that ends the connection.
fn take_requests(
    core: &Core,
    reader: &mut RequestReader,
    buffer: &mut [u8],
    filled: usize,
    exchanges: &mut Vec<Exchange>,
) -> TakenRequests {
    let mut at = 0;
    while at < filled && exchanges.len() < PIPELINE_MAX {
        match reader.advance(&mut buffer[at..filled]) {
            Parsed::Partial if at == 0 && filled + PADDING_BYTES >= BUFFER_BYTES_MAX => {
                return TakenRequests { consumed: at, refused: Some(Refusal::BodyTooLarge) };
            }
            Parsed::Partial => break,
            Parsed::Refused(refusal) => return TakenRequests { consumed: at, refused: Some(refusal) },
            Parsed::Complete(request) => {
                exchanges.push(exchange(core, buffer, at, &request));
                at += request.len;
                // Some clients send an empty line after a body; it does not start a request (RFC 9112 section 2.2).
                at += http1::empty_lines(&buffer[at..filled]);
                if exchanges.last().is_some_and(|last| last.connection == Connection::Closes) {
                    break;
                }
            }
        }
    }
    // A gateway that has announced its shutdown answers every request of the last read and closes with the last response,
    // so that no pipelined request is lost.
    if core.shared.drain.is_leaving()
        && let Some(last) = exchanges.last_mut()
    {
        last.connection = Connection::Closes;
    }
    TakenRequests { consumed: at, refused: None }
}

fn exchange(core: &Core, buffer: &mut [u8], at: usize, request: &Request) -> Exchange {
    let route = route(&mut core.orders.borrow_mut(), buffer, at, request);
    let head = &request.head;
    let correlation = match head.correlation_id {
        Some(span) => Correlation::Given(span.shifted(at)),
        None => Correlation::Generated(core.identities.uuid()),
    };
    let connection = match (head.keep_alive, head.is_http10) {
        (true, false) => Connection::Stays,
        (true, true) => Connection::StaysFor10,
        (false, _) => Connection::Closes,
    };
    Exchange {
        route,
        correlation,
        traceparent: head.traceparent.map(|span| span.shifted(at)),
        connection,
        is_head: head.method == http1::Method::Head,
    }
}

/// Processes all exchanges concurrently and appends their responses in order.
async fn answer_all(core: &Rc<Core>, buffer: &[u8], exchanges: &[Exchange], out: &mut Vec<u8>) {
    let began = Instant::now();
    if let [exchange] = exchanges {
        let answer = handle(core, buffer, exchange, began).await;
        write_answer(core, buffer, exchange, &answer, began, out);
        return;
    }
    // At most PIPELINE_MAX.
    let answers: Vec<_> =
        exchanges.iter().map(|exchange| Box::pin(handle(core, buffer, exchange, began))).collect();
    for (exchange, answer) in exchanges.iter().zip(all(answers).await) {
        write_answer(core, buffer, exchange, &answer, began, out);
    }
}

async fn handle(core: &Rc<Core>, buffer: &[u8], exchange: &Exchange, began: Instant) -> Answer {
    crate::fault::at("read", exchange.correlation.text(buffer));
    match &exchange.route {
        Route::Buy(Err(bad)) => Answer::Order(Outcome::Invalid(bad.clone())),
        Route::Unsupported(what) => Answer::Order(Outcome::Unsupported(*what)),
        Route::Buy(Ok(order)) => {
            let order = Order {
                user_id: order.user_id.text(buffer),
                item_id: order.item_id.text(buffer),
                amount: order.amount,
                request_id: order.request_id.text(buffer),
                correlation_id: exchange.correlation.text(buffer),
                traceparent: exchange.traceparent.map(|span| span.text(buffer)),
                started_at: began,
            };
            Answer::Order(place(core, &order).await)
        }
        Route::Status { request_id } => Answer::Status(core.store.status(request_id).await),
        Route::Health => crate::health::health(core),
        Route::Live => crate::health::live(core),
        Route::Metrics => match crate::metrics_page::page(&core.shared, core.publisher.producer()) {
            Ok(body) => Answer::Plain { status: reply::OK, content_type: PAGE_CONTENT_TYPE, extra: "", body },
            Err(reason) => Answer::error(reply::INTERNAL_ERROR, &reason),
        },
        Route::NotFound => Answer::error(reply::NOT_FOUND, "Not found"),
        Route::WrongMethod { allow } => {
            let body = "{\"error\":\"Method not allowed\"}".to_owned();
            Answer::Plain { status: reply::METHOD_NOT_ALLOWED, content_type: reply::JSON, extra: allow, body }
        }
    }
}

/// Appends one response; an order is also counted and logged. This is the only place that counts an order's outcome.
fn write_answer(
    core: &Core,
    buffer: &[u8],
    exchange: &Exchange,
    answer: &Answer,
    began: Instant,
    out: &mut Vec<u8>,
) {
    let correlation_id = exchange.correlation.text(buffer);
    let mut head = ReplyHead {
        status: reply::OK,
        date: &core.date.borrow(),
        content_type: reply::JSON,
        correlation_id,
        retry_after_s: None,
        extra: "",
        connection: exchange.connection,
        is_head: exchange.is_head,
    };
    match answer {
        Answer::Order(outcome) => {
            let row = response_row(outcome, core.identities.number());
            let ended = Instant::now();
            let duration = ended.saturating_duration_since(began);
            let order = match &exchange.route {
                Route::Buy(Ok(order)) => Some(order),
                _ => None,
            };
            let item_id = order.map_or("", |order| order.item_id.text(buffer));
            let processing_time_ms = duration.as_millis() as u64;
            let context = BodyContext { correlation_id, item_id, processing_time_ms };
            let mut text = core.take_buffer();
            body(outcome, &context, row.retry_after_s, &mut text);
            (head.status, head.retry_after_s, head.extra) = (row.status, row.retry_after_s, row.extra);
            head.write(&text, out);
            core.give_buffer(text);
            let cells = core.cells();
            cells.counters[Counter::Received as usize].add(1);
            cells.counters[row.counter as usize].add(1);
            cells.durations[REQUEST_DURATION].observe_us(duration.as_micros() as u64);
            core.overload.ended(outcome, duration, ended);
            if row.counter != Counter::Successful {
                core.refusals.borrow_mut()[row.counter as usize] += 1;
            }
            if core.log.is_on(row.level) {
                let entry = LogEntry { level: row.level, event: row.event, message: row.message, at: ended };
                log_order(core, &entry, &context, order, buffer);
            }
        }
        Answer::Status(Ok(Some(view))) => {
            let Route::Status { request_id } = &exchange.route else { return };
            let mut text = b"{\"request_id\":\"".to_vec();
            wire::order::escape_json_into(&mut text, request_id);
            text.extend_from_slice(b"\",\"status\":\"");
            text.extend_from_slice(view.status.word().as_bytes());
            text.extend_from_slice(b"\",\"correlation_id\":");
            match &view.correlation_id {
                Some(correlation_id) => {
                    text.push(b'"');
                    wire::order::escape_json_into(&mut text, correlation_id);
                    text.push(b'"');
                }
                None => text.extend_from_slice(b"null"),
            }
            if view.status == Status::Pending {
                write_wait(core, &mut text);
            }
            text.push(b'}');
            head.write(&text, out);
        }
        Answer::Status(Ok(None)) => {
            head.status = reply::NOT_FOUND;
            head.write(b"{\"error\":\"Order not found\"}", out);
        }
        Answer::Status(Err(_)) => {
            head.status = reply::UNAVAILABLE;
            head.retry_after_s = Some(1);
            head.write(b"{\"error\":\"Service temporarily unavailable\"}", out);
        }
        Answer::Plain { status, content_type, extra, body } => {
            (head.status, head.content_type, head.extra) = (*status, content_type, extra);
            head.write(body.as_bytes(), out);
        }
    }
}

/// Appends how long a pending order may still wait; `null` where unknown.
fn write_wait(core: &Core, text: &mut Vec<u8>) {
    let (ahead, eta_ms) = core.shared.backlog.query(core.shared.started.elapsed());
    for (name, value) in [("ahead", ahead), ("eta_ms", eta_ms)] {
        text.extend_from_slice(b",\"");
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"\":");
        match value {
            Some(value) => reply::number(text, value),
            None => text.extend_from_slice(b"null"),
        }
    }
}

/// The fixed parts of a log line about an order.
struct LogEntry<'a> {
    level: Level,
    event: &'a str,
    message: &'a str,
    at: Instant,
}

fn log_order(
    core: &Core,
    entry: &LogEntry<'_>,
    context: &BodyContext<'_>,
    order: Option<&wire::order_json::Order>,
    buffer: &[u8],
) {
    let LogEntry { level, event, message, at } = *entry;
    core.log.line_at(core.unix_ms_at(at), level, event, message, |line| {
        line.text("correlation_id", context.correlation_id);
        if let Some(order) = order {
            line.text("user_id", order.user_id.text(buffer))
                .text("item_id", context.item_id)
                .text("request_id", order.request_id.text(buffer));
        }
        line.number("processing_time_ms", context.processing_time_ms);
    });
}

fn write_refusal(core: &Core, refused: Refusal, out: &mut Vec<u8>) {
    let (status, reason) = reply::refusal(refused);
    let uuid = core.identities.uuid();
    let correlation_id = std::str::from_utf8(&uuid).unwrap_or_default();
    let head = ReplyHead {
        status,
        date: &core.date.borrow(),
        content_type: reply::JSON,
        correlation_id,
        retry_after_s: None,
        extra: "",
        connection: Connection::Closes,
        is_head: false,
    };
    let text = format!("{{\"error\":\"Bad request: {reason}\",\"correlation_id\":\"{correlation_id}\"}}");
    head.write(text.as_bytes(), out);
}

/// Closes our side, then reads and discards until the client closes its side or a limit is reached.
async fn linger(stream: &mut TcpStream, mut buffer: Box<[u8]>) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut read_bytes = 0;
    while read_bytes < LINGER_BYTES_MAX {
        let (read, back) = stream.read(buffer).await;
        buffer = back;
        match read {
            Ok(count) if count > 0 => read_bytes += count,
            _ => return,
        }
    }
}
