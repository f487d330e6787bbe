//! Parses the JSON body of an order in place, in the connection's padded buffer.
//!
//! simd-json fills a reused tape; one walk over it reads the four fields, refuses duplicates of them and skips unknown
//! fields. A body that simd-json refuses is parsed again by [`json`], slowly and from a copy. A number beyond 64 bits, a
//! lone surrogate or deep nesting is valid JSON: in an unknown field it is skipped, in a known field it makes the *field*
//! invalid, not the body (contract: the two kinds of 400).

use simd_json::{Buffers, Node, StaticNode, Tape};

use crate::http1::Span;
use crate::{json, order};

/// Number of initialised bytes that must follow a body in its buffer.
pub const PADDING_BYTES: usize = simd_json::INPUT_PADDING;
/// Maximum nesting for simd-json: that of a field, plus the order object.
const DEPTH_MAX: usize = json::DEPTH_MAX + 1;

/// A valid order; its strings are spans of the buffer it was parsed from, with escapes resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The buyer's id.
    pub user_id: Span,
    /// The item's id.
    pub item_id: Span,
    /// Units, 1..=1000.
    pub amount: u32,
    /// The buyer's idempotency key.
    pub request_id: Span,
}

/// Why a body is not an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadOrder {
    /// Not JSON, or not an object.
    Body,
    /// All invalid fields, in the contract's order.
    Fields(Vec<BadField>),
}

/// An invalid field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadField {
    /// The name of the field.
    pub field: &'static str,
    /// The error message for the buyer.
    pub message: &'static str,
}

/// The result for one field.
#[derive(Debug, Clone, Copy)]
enum Found<T> {
    Missing,
    Good(T),
    Bad(&'static str),
}

/// The four fields as found, in the contract's order.
#[derive(Debug, Clone, Copy)]
struct Fields {
    user_id: Found<Span>,
    item_id: Found<Span>,
    amount: Found<u32>,
    request_id: Found<Span>,
}

const MISSING: &str = "is required";
const TWICE: &str = "is given more than once";
const NOT_TEXT: &str = "must be a string";

impl<T: Copy> Found<T> {
    fn put(&mut self, value: Result<T, &'static str>) {
        *self = match (*self, value) {
            (Self::Missing, Ok(value)) => Self::Good(value),
            (Self::Missing, Err(message)) => Self::Bad(message),
            (Self::Good(_) | Self::Bad(_), _) => Self::Bad(TWICE),
        };
    }

    fn good(self) -> Option<T> {
        if let Self::Good(value) = self { Some(value) } else { None }
    }

    fn error(self, field: &'static str) -> Option<BadField> {
        match self {
            Self::Good(_) => None,
            Self::Missing => Some(BadField { field, message: MISSING }),
            Self::Bad(message) => Some(BadField { field, message }),
        }
    }
}

impl Fields {
    const fn missing() -> Self {
        Self {
            user_id: Found::Missing,
            item_id: Found::Missing,
            amount: Found::Missing,
            request_id: Found::Missing,
        }
    }

    fn into_order(self) -> Result<Order, BadOrder> {
        if let (Some(user_id), Some(item_id), Some(amount), Some(request_id)) =
            (self.user_id.good(), self.item_id.good(), self.amount.good(), self.request_id.good())
        {
            return Ok(Order { user_id, item_id, amount, request_id });
        }
        let errors = [
            self.user_id.error("user_id"),
            self.item_id.error("item_id"),
            self.amount.error("amount"),
            self.request_id.error("request_id"),
        ];
        Err(BadOrder::Fields(errors.into_iter().flatten().collect()))
    }
}

/// Parses orders with reused buffers. One per core.
pub struct OrderReader {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
    /// A copy of the body: simd-json leaves its input undefined when it refuses it.
    raw: Vec<u8>,
}

impl Default for OrderReader {
    fn default() -> Self {
        Self {
            buffers: Buffers::with_max_depth(1024, DEPTH_MAX),
            tape: Some(Tape(Vec::new())),
            raw: Vec::new(),
        }
    }
}

impl OrderReader {
    /// Parses the order in `body`, a span of `buffer`, which at least [`PADDING_BYTES`] initialised bytes must follow
    /// (otherwise every body is refused). Escapes are resolved in place.
    ///
    /// # Errors
    /// When the body is not an order.
    pub fn read(&mut self, buffer: &mut [u8], body: Span) -> Result<Order, BadOrder> {
        let (start, len) = (body.start as usize, body.len as usize);
        let Some(input) = buffer.get_mut(start..) else { return Err(BadOrder::Body) };
        self.raw.clear();
        self.raw.extend_from_slice(input.get(..len).unwrap_or_default());
        let base = input.as_ptr() as usize;
        let span = |text: &str| Span {
            start: (start + text.as_ptr() as usize - base) as u32,
            len: text.len() as u32,
        };
        let mut tape = self.tape.take().unwrap_or_else(|| Tape(Vec::new())).reset();
        let is_json = simd_json::fill_tape_padded(input, len, &mut self.buffers, &mut tape).is_ok();
        let fields = if is_json { walk(&tape.0, span) } else { None };
        self.tape = Some(tape.reset());
        match fields {
            Some(fields) => fields.into_order(),
            None if is_json => Err(BadOrder::Body),
            None => read_fallback(&self.raw, input.get_mut(..len).unwrap_or_default(), start),
        }
    }
}

/// `None` when the document is not an object.
fn walk(tape: &[Node<'_>], span: impl Fn(&str) -> Span) -> Option<Fields> {
    let Some(Node::Object { len, .. }) = tape.first() else { return None };
    let mut fields = Fields::missing();
    let mut at = 1;
    for _ in 0..*len {
        let (Some(Node::String(key)), Some(value)) = (tape.get(at), tape.get(at + 1)) else { return None };
        match *key {
            "user_id" => fields.user_id.put(text(value, order::check_id).map(&span)),
            "item_id" => fields.item_id.put(text(value, order::check_id).map(&span)),
            "amount" => fields.amount.put(amount(value)),
            "request_id" => fields.request_id.put(text(value, order::check_request_id).map(&span)),
            _ => {}
        }
        at += 2 + match value {
            Node::Object { count, .. } | Node::Array { count, .. } => *count,
            Node::String(_) | Node::Static(_) => 0,
        };
    }
    Some(fields)
}

fn text<'a>(value: &Node<'a>, check: fn(&str) -> Result<(), &'static str>) -> Result<&'a str, &'static str> {
    let Node::String(text) = value else { return Err(NOT_TEXT) };
    check(text).map(|()| *text)
}

fn amount(value: &Node<'_>) -> Result<u32, &'static str> {
    let number = match value {
        Node::Static(StaticNode::I64(number)) => i128::from(*number),
        Node::Static(StaticNode::U64(number)) => i128::from(*number),
        // 1.0 and 1e0 are refused too: only integer syntax is allowed.
        _ => return Err(order::AMOUNT_MESSAGE),
    };
    order::check_amount(number).map(|()| number as u32)
}

/// Parses what simd-json refused. `raw` is a copy of the body, `place` its bytes in the buffer and `start` their offset in
/// the buffer. Unescaped strings are written back into `place` at their original position.
#[cold]
fn read_fallback(raw: &[u8], place: &mut [u8], start: usize) -> Result<Order, BadOrder> {
    let body = std::str::from_utf8(raw).map_err(|_| BadOrder::Body)?;
    let mut fields = Fields::missing();
    let mut text = |value: json::Raw<'_>, check: fn(&str) -> Result<(), &'static str>| {
        let text = value.string().ok_or(NOT_TEXT)?;
        check(&text)?;
        // One byte after the quote; an unescaped string is never longer than an escaped one.
        let at = Span::of(raw, value.text().as_bytes()).start as usize + 1;
        place.get_mut(at..at + text.len()).ok_or(NOT_TEXT)?.copy_from_slice(text.as_bytes());
        Ok(Span { start: (start + at) as u32, len: text.len() as u32 })
    };
    json::fields(body, |name, value| match name {
        "user_id" => fields.user_id.put(text(value, order::check_id)),
        "item_id" => fields.item_id.put(text(value, order::check_id)),
        "amount" => fields.amount.put(order::read_amount(value)),
        "request_id" => fields.request_id.put(text(value, order::check_request_id)),
        _ => {}
    })
    .map_err(|json::NotAnObject| BadOrder::Body)?;
    fields.into_order()
}
