//! A state of the model. All parts are small, because the search keeps a fingerprint of each of many states.

/// A complete state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub redis: Redis,
    pub requests: Vec<Request>,
    pub gateways: [Gateway; 2],
    /// The single partition of `orders`.
    pub log: Vec<Record>,
    /// Records whose publish timed out and that are not in the log yet.
    pub late: Vec<Record>,
    pub processors: [Processor; 2],
    /// Index of the processor that owns the partition.
    pub owner: usize,
    pub committed: usize,
    /// Results of the payment provider, by id and attempt. A repeated charge returns the same result
    /// (idempotency key).
    pub payments: Vec<[Option<bool>; 2]>,
    /// The latest final status of each id so far. For the rules only; no process reads it.
    pub finals: Vec<Option<(FinalStatus, u8)>>,
    /// A final status was replaced by a different one of the same attempt. For the rules only; no process
    /// reads it.
    pub has_changed_final: bool,
    pub crashes: u8,
    pub rebalances: u8,
    pub replays: u8,
}

/// Redis keys by slot: no step touches two of these fields, nor two elements of one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Redis {
    /// `ratelimit:<user>`: the admissions in the window.
    pub window: Vec<Owner>,
    /// `order_status:<id>`.
    pub status: Vec<Option<Value>>,
    /// `gateway_watermark:<owner>`.
    pub watermarks: [u8; 2],
    /// `fence:{inventory:<item>}`, in one slot with the stock.
    pub fences: Vec<Option<Fence>>,
    /// `inventory:<item>`.
    pub stock: i8,
}

/// The token of an admission: owner and sequence, unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The admission of an order that was acknowledged before the initial state.
    Preexisting,
    /// Gateway and sequence.
    Token(usize, u8),
}

/// The value of `order_status:<id>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value {
    Pending { owner: Owner, is_suspended: bool },
    Final(FinalStatus, u8),
}

/// A final status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinalStatus {
    Completed,
    SoldOut,
    FailedPayment,
}

/// The fence of an order: its state and attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    pub attempt: u8,
    /// `None` while the unit is held.
    pub final_status: Option<FinalStatus>,
}

/// A gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gateway {
    pub is_down: bool,
    /// The last sequence number it assigned.
    pub sequence: u8,
}

/// A client request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Request {
    pub phase: Phase,
    /// Its token: the gateway it arrived at and the sequence number there.
    pub token: Option<(usize, u8)>,
    /// The result of this admission is known, so the watermark may pass it.
    pub is_resolved: bool,
}

impl Request {
    /// Its token as stored in Redis.
    pub fn owner(&self) -> Owner {
        self.token.map_or(Owner::Preexisting, |(gateway, sequence)| Owner::Token(gateway, sequence))
    }
}

/// Progress of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::option_option, reason = "outer: whether a reply has arrived; inner: its content")]
pub enum Phase {
    #[default]
    NotSent,
    /// Both commands are sent. The replies so far: whether the window was set, and the former value of the
    /// id.
    Admitting {
        is_window_set: Option<bool>,
        old: Option<Option<Value>>,
    },
    /// This request has set the id, but the user already has a window, so the script decides.
    Counting,
    /// The id is pending for another admission.
    Duplicate {
        old: Value,
        is_counted: bool,
    },
    /// The id was taken over from this owner; the window is not updated yet.
    TakingOver {
        from: Owner,
        is_counted: bool,
    },
    Publishing {
        is_takeover: bool,
    },
    /// What remains to be released before the response.
    Releasing {
        window: bool,
        id: bool,
        then: Response,
    },
    /// The id must be suspended; `window`: the window entry must be released first.
    Suspending {
        window: bool,
        then: Response,
    },
    Answered(Response),
}

/// The response that the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Response {
    Accepted,
    Conflict,
    TooMany,
    Unavailable,
    /// No response: the gateway crashed.
    Nothing,
}

/// A record of `orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    pub id: u8,
    pub attempt: u8,
}

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Processor {
    /// The next record it fetches.
    pub position: usize,
    pub step: Step,
}

/// Progress of a processor with its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Step {
    #[default]
    Idle,
    Reserving(Record),
    Paying(Record),
    Settling(Record, bool),
    /// Writing the status of this id, as read from its fence.
    Writing {
        id: u8,
        final_status: FinalStatus,
        attempt: u8,
    },
}
