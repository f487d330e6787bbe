//! One connection: bytes to requests, answers to bytes, in the order of the requests.
//!
//! Everything that one read brought is on the road together; the answers leave in one write. A connection reads again
//! only when those are written, so what it holds is bounded: one read buffer of [`BUFFER_BYTES_MAX`] and the answers
//! to [`PIPELINE_MAX`] requests. No timer per read: the core's sweep looks at [`Register`] and shuts late sockets
//! down.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use shard::cells::PAGE_CONTENT_TYPE;
use shard::join::all;
use shard::log::Level;
use store::{StatusView, StoreError, StoreSteps};
use wire::chunked;
use wire::http1::{self, Parsed, Refusal, Request, RequestReader, Span};
use wire::names::Status;
use wire::order_json::PADDING_BYTES;
use wire::reply::{self, Connection, ReplyHead, StatusLine};
use wire::uuid::UUID_CHARS;

use crate::core::Core;
use crate::metrics::{Counter, REQUEST_DURATION};
use crate::order::{Order, Outcome, place};
use crate::reply::{About, body, row};
use crate::route::{Asked, route};
use crate::sockets;

/// A new connection's buffer: an order with its headers is 200 to 400 bytes, and an idle connection holds only this.
const BUFFER_BYTES_FIRST: usize = 2048;
/// The largest buffer: line, headers and a chunked body at their bounds, and the padding that simd-json reads.
const BUFFER_BYTES_MAX: usize =
    http1::LINE_BYTES_MAX + http1::HEADERS_BYTES_MAX + chunked::WIRE_BYTES_MAX + 64 + PADDING_BYTES;
/// Requests of one read that are on the road together; more wait in the buffer for the next turn.
const PIPELINE_MAX: usize = 64;
/// A request may take this long from its first byte to its last (contract: 408).
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// A client may take this long to read its answers.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection may lie idle between requests this long.
const IDLE_TIME_MAX: Duration = Duration::from_secs(75);
/// After a refusal what the client still sends is read and thrown away this long and this much, so that the reset of
/// a socket closed with unread bytes does not overtake the answer.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// What a connection is doing, for the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Idle,
    Reading,
    Working,
    Writing,
    Lingering,
}

/// What the sweep sees of a connection.
#[derive(Debug)]
pub struct Visible {
    fd: i32,
    doing: Cell<Doing>,
    since: Cell<Instant>,
    /// The register's clock: up to a tick late, which is nothing beside the limits, and costs no call.
    clock: Rc<Cell<Instant>>,
    is_too_slow: Cell<bool>,
}

impl Visible {
    fn enter(&self, doing: Doing) {
        self.doing.set(doing);
        self.since.set(self.clock.get());
    }
}

/// The open connections of a core; bounded by `connections_max`, which the acceptor keeps.
#[derive(Debug)]
pub struct Register {
    clock: Rc<Cell<Instant>>,
    slots: Vec<Option<Rc<Visible>>>,
    free: Vec<usize>,
}

impl Default for Register {
    fn default() -> Self {
        Self { clock: Rc::new(Cell::new(Instant::now())), slots: Vec::new(), free: Vec::new() }
    }
}

impl Register {
    /// What the connections take for the time; set by every tick of the core.
    pub fn set_clock(&self, now: Instant) {
        self.clock.set(now);
    }

    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn add(&mut self, fd: i32) -> (usize, Rc<Visible>) {
        let visible = Rc::new(Visible {
            fd,
            doing: Cell::new(Doing::Idle),
            since: Cell::new(self.clock.get()),
            clock: Rc::clone(&self.clock),
            is_too_slow: Cell::new(false),
        });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Rc::clone(&visible));
        (slot, visible)
    }

    fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    /// Shuts down what is over its time. The pending read or write then ends and the connection sees to the rest.
    pub fn sweep(&self, now: Instant) {
        for visible in self.slots.iter().flatten() {
            let age = now.saturating_duration_since(visible.since.get());
            match visible.doing.get() {
                Doing::Reading if age >= REQUEST_TIME_MAX => {
                    visible.is_too_slow.set(true);
                    sockets::shutdown_read(visible.fd);
                }
                Doing::Idle if age >= IDLE_TIME_MAX => sockets::shutdown_read(visible.fd),
                Doing::Writing if age >= WRITE_TIME_MAX => sockets::shutdown_both(visible.fd),
                Doing::Lingering if age >= LINGER_TIME_MAX => sockets::shutdown_both(visible.fd),
                _ => {}
            }
        }
    }
}

/// Removes a connection from the register before its socket is closed, also when it panics.
struct Registered {
    core: Rc<Core>,
    slot: usize,
    visible: Rc<Visible>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.core.connections.borrow_mut().remove(self.slot);
    }
}

/// A request on its way to its answer.
struct Exchange {
    asked: Asked,
    correlation: Correlation,
    traceparent: Option<Span>,
    connection: Connection,
    is_head: bool,
}

enum Correlation {
    Given(Span),
    Made([u8; UUID_CHARS]),
}

impl Correlation {
    fn text<'a>(&'a self, buffer: &'a [u8]) -> &'a str {
        match self {
            Self::Given(span) => span.text(buffer),
            Self::Made(uuid) => std::str::from_utf8(uuid).unwrap_or_default(),
        }
    }
}

/// What an exchange came to.
pub(crate) enum Answer {
    Order(Outcome),
    Status(Result<Option<StatusView>, StoreError>),
    Plain { status: StatusLine, content_type: &'static str, extra: &'static str, body: String },
}

/// Leads a connection to its end. `stream` is dropped, and its socket closed, when this returns.
pub async fn serve(core: Rc<Core>, mut stream: TcpStream) {
    let registered = {
        let (slot, visible) = core.connections.borrow_mut().add(sockets::descriptor(&stream));
        Registered { core: Rc::clone(&core), slot, visible }
    };
    let visible = &registered.visible;
    let mut buffer = vec![0_u8; BUFFER_BYTES_FIRST].into_boxed_slice();
    // Invariant: buffer[..filled] was received and not yet answered; the last PADDING_BYTES are never received into.
    let mut filled = 0;
    let mut reader = RequestReader::default();
    let mut exchanges = Vec::new();
    loop {
        let Collected { consumed, refused } =
            collect(&core, &mut reader, &mut buffer, filled, &mut exchanges);
        if !exchanges.is_empty() || refused.is_some() {
            let closes = refused.is_some()
                || exchanges.last().is_some_and(|last| last.connection == Connection::Closes);
            visible.enter(Doing::Working);
            let mut out = core.take_buffer();
            answer_all(&core, &buffer, &exchanges, &mut out).await;
            if let Some(refused) = refused {
                core.count(Counter::FramingRefused);
                write_refusal(&core, refused, &mut out);
            }
            exchanges.clear();
            visible.enter(Doing::Writing);
            let (written, out) = stream.write_all(out).await;
            core.give_buffer(out);
            if written.is_err() {
                return;
            }
            if closes {
                visible.enter(Doing::Lingering);
                linger(&mut stream, buffer).await;
                return;
            }
            buffer.copy_within(consumed..filled, 0);
            filled -= consumed;
            visible.enter(if filled > 0 { Doing::Reading } else { Doing::Idle });
            continue;
        }
        if reader.waits_for_body().is_some_and(|head| head.expects_continue) {
            reader.told_to_continue();
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
                    visible.enter(Doing::Reading);
                }
                filled += count;
                core.overload.read(visible.fd);
            }
            _ if visible.is_too_slow.get() => {
                let mut out = core.take_buffer();
                core.count(Counter::FramingRefused);
                write_refusal(&core, Refusal::TooSlow, &mut out);
                visible.enter(Doing::Writing);
                // The client may be gone; the connection ends either way.
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

struct Collected {
    /// Bytes of the requests collected.
    consumed: usize,
    /// Why nothing more will be read.
    refused: Option<Refusal>,
}

/// Takes every complete request at the beginning of the buffer, up to one that ends the connection.
fn collect(
    core: &Core,
    reader: &mut RequestReader,
    buffer: &mut [u8],
    filled: usize,
    exchanges: &mut Vec<Exchange>,
) -> Collected {
    let mut at = 0;
    while at < filled && exchanges.len() < PIPELINE_MAX {
        match reader.advance(&mut buffer[at..filled]) {
            Parsed::Partial if at == 0 && filled + PADDING_BYTES >= BUFFER_BYTES_MAX => {
                return Collected { consumed: at, refused: Some(Refusal::BodyTooLarge) };
            }
            Parsed::Partial => break,
            Parsed::Refused(refusal) => return Collected { consumed: at, refused: Some(refusal) },
            Parsed::Complete(request) => {
                exchanges.push(exchange(core, buffer, at, &request));
                at += request.len;
                // Some clients send an empty line behind a body; it begins no request (RFC 9112 section 2.2).
                at += http1::empty_lines(&buffer[at..filled]);
                if exchanges.last().is_some_and(|last| last.connection == Connection::Closes) {
                    break;
                }
            }
        }
    }
    // A gateway that leaves answers all that came with the last read and closes with the last of these answers: what a
    // client has pipelined so far is not lost.
    if core.shared.drain.is_leaving()
        && let Some(last) = exchanges.last_mut()
    {
        last.connection = Connection::Closes;
    }
    Collected { consumed: at, refused: None }
}

fn exchange(core: &Core, buffer: &mut [u8], at: usize, request: &Request) -> Exchange {
    let asked = route(&mut core.orders.borrow_mut(), buffer, at, request);
    let head = &request.head;
    let correlation = match head.correlation_id {
        Some(span) => Correlation::Given(span.shifted(at)),
        None => Correlation::Made(core.identities.uuid()),
    };
    let connection = match (head.keep_alive, head.is_http10) {
        (true, false) => Connection::Stays,
        (true, true) => Connection::StaysFor10,
        (false, _) => Connection::Closes,
    };
    Exchange {
        asked,
        correlation,
        traceparent: head.traceparent.map(|span| span.shifted(at)),
        connection,
        is_head: head.method == http1::Method::Head,
    }
}

/// Leads all exchanges together and appends their answers in order.
async fn answer_all(core: &Rc<Core>, buffer: &[u8], exchanges: &[Exchange], out: &mut Vec<u8>) {
    let began = Instant::now();
    if let [exchange] = exchanges {
        let answer = act(core, buffer, exchange, began).await;
        write_answer(core, buffer, exchange, &answer, began, out);
        return;
    }
    // At most PIPELINE_MAX.
    let acts: Vec<_> =
        exchanges.iter().map(|exchange| Box::pin(act(core, buffer, exchange, began))).collect();
    for (exchange, answer) in exchanges.iter().zip(all(acts).await) {
        write_answer(core, buffer, exchange, &answer, began, out);
    }
}

async fn act(core: &Rc<Core>, buffer: &[u8], exchange: &Exchange, began: Instant) -> Answer {
    crate::fault::at("read", exchange.correlation.text(buffer));
    match &exchange.asked {
        Asked::Buy(Err(bad)) => Answer::Order(Outcome::Invalid(bad.clone())),
        Asked::Unsupported(what) => Answer::Order(Outcome::Unsupported(*what)),
        Asked::Buy(Ok(order)) => {
            let order = Order {
                user_id: order.user_id.text(buffer),
                item_id: order.item_id.text(buffer),
                amount: order.amount,
                request_id: order.request_id.text(buffer),
                correlation_id: exchange.correlation.text(buffer),
                traceparent: exchange.traceparent.map(|span| span.text(buffer)),
                began,
            };
            Answer::Order(place(core, &order).await)
        }
        Asked::Status { request_id } => Answer::Status(core.store.status(request_id).await),
        Asked::Health => crate::health::health(core),
        Asked::Live => crate::health::live(core),
        Asked::Metrics => match crate::metrics::page(&core.shared, core.publisher.producer()) {
            Ok(body) => Answer::Plain { status: reply::OK, content_type: PAGE_CONTENT_TYPE, extra: "", body },
            Err(reason) => Answer::error(reply::INTERNAL_ERROR, &reason),
        },
        Asked::NotFound => Answer::error(reply::NOT_FOUND, "Not found"),
        Asked::WrongMethod { allow } => {
            let body = "{\"error\":\"Method not allowed\"}".to_owned();
            Answer::Plain { status: reply::METHOD_NOT_ALLOWED, content_type: reply::JSON, extra: allow, body }
        }
    }
}

impl Answer {
    pub(crate) fn json(status: StatusLine, body: String) -> Self {
        Self::Plain { status, content_type: reply::JSON, extra: "", body }
    }

    fn error(status: StatusLine, text: &str) -> Self {
        let mut body = b"{\"error\":\"".to_vec();
        wire::order::escape_json_into(&mut body, text);
        body.extend_from_slice(b"\"}");
        Self::json(status, String::from_utf8(body).unwrap_or_default())
    }
}

/// Appends one answer, and for an order counts and logs it: the only place where an order's outcome is counted.
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
            let row = row(outcome, core.identities.number());
            let ended = Instant::now();
            let duration = ended.saturating_duration_since(began);
            let order = match &exchange.asked {
                Asked::Buy(Ok(order)) => Some(order),
                _ => None,
            };
            let item_id = order.map_or("", |order| order.item_id.text(buffer));
            let processing_time_ms = duration.as_millis() as u64;
            let about = About { correlation_id, item_id, processing_time_ms };
            let mut text = core.take_buffer();
            body(outcome, &about, row.retry_after_s, &mut text);
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
                log_order(core, &entry, &about, order, buffer);
            }
        }
        Answer::Status(Ok(Some(view))) => {
            let Asked::Status { request_id } = &exchange.asked else { return };
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

/// How long an order may still wait, as far as it is known.
fn write_wait(core: &Core, text: &mut Vec<u8>) {
    let (ahead, eta_ms) = core.shared.backlog.ask(core.shared.started.elapsed());
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

/// What a line about an order says of itself.
struct LogEntry<'a> {
    level: Level,
    event: &'a str,
    message: &'a str,
    at: Instant,
}

fn log_order(
    core: &Core,
    entry: &LogEntry<'_>,
    about: &About<'_>,
    order: Option<&wire::order_json::Order>,
    buffer: &[u8],
) {
    let LogEntry { level, event, message, at } = *entry;
    core.log.line_at(core.unix_ms_at(at), level, event, message, |line| {
        line.text("correlation_id", about.correlation_id);
        if let Some(order) = order {
            line.text("user_id", order.user_id.text(buffer))
                .text("item_id", about.item_id)
                .text("request_id", order.request_id.text(buffer));
        }
        line.number("processing_time_ms", about.processing_time_ms);
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

/// Ends our side, then reads what still comes until the client ends its side or the time is over.
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
