//! What the world consists of at one moment. Everything is small: the search keeps a fingerprint of each state.

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub redis: Redis,
    pub requests: Vec<Request>,
    pub gateways: [Gateway; 2],
    /// The one partition of `orders`.
    pub log: Vec<Record>,
    /// Published, timed out, and not yet in the log.
    pub late: Vec<Record>,
    pub processors: [Processor; 2],
    /// Which processor owns the partition.
    pub owner: usize,
    pub committed: usize,
    /// What the payment provider said, by id and attempt: asked again, it says the same (idempotency key).
    pub payments: Vec<[Option<bool>; 2]>,
    /// The latest final status of each id so far. Nobody in the world can read it.
    pub finals: Vec<Option<(Ending, u8)>>,
    /// A final status was followed by another of the same attempt. Nobody in the world can read it.
    pub has_changed_final: bool,
    pub crashes: u8,
    pub rebalances: u8,
    pub replays: u8,
}

/// Keys by slot: no step touches two of these fields, nor two elements of one.
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
    /// Of an order that was acknowledged before the world began.
    Before,
    /// Gateway and sequence.
    Token(usize, u8),
}

/// The value of `order_status:<id>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value {
    Pending { owner: Owner, is_suspended: bool },
    Final(Ending, u8),
}

/// A final status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    Completed,
    SoldOut,
    FailedPayment,
}

/// What the item knows of an order, with the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    pub attempt: u8,
    /// `None` while the unit is held.
    pub ending: Option<Ending>,
}

/// A gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gateway {
    pub is_down: bool,
    /// The last sequence it gave out.
    pub sequence: u8,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Request {
    pub phase: Phase,
    /// Where it arrived, and its sequence there: its token.
    pub token: Option<(usize, u8)>,
    /// Nothing of this admission is undecided: the watermark may pass it.
    pub is_resolved: bool,
}

impl Request {
    /// Its token as it stands in Redis.
    pub fn owner(&self) -> Owner {
        self.token.map_or(Owner::Before, |(gateway, sequence)| Owner::Token(gateway, sequence))
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::option_option, reason = "whether there is a reply, and what it says")]
pub enum Phase {
    #[default]
    NotSent,
    /// Both commands are sent; the replies so far: whether the window was set, and what the id held.
    Admitting {
        is_window_set: Option<bool>,
        old: Option<Option<Value>>,
    },
    /// The id is ours, and the user has a window: the script decides.
    Counting,
    /// The id is pending for somebody else.
    Duplicate {
        old: Value,
        is_counted: bool,
    },
    /// The id was taken over from this owner; the window does not know yet.
    TakingOver {
        from: Owner,
        is_counted: bool,
    },
    Publishing {
        is_takeover: bool,
    },
    /// What is still to be given back before the answer.
    Releasing {
        window: bool,
        id: bool,
        then: Answer,
    },
    /// Still to be suspended; whether the window is to be given back before.
    Suspending {
        window: bool,
        then: Answer,
    },
    Answered(Answer),
}

/// What the client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    Accepted,
    Conflict,
    TooMany,
    Unavailable,
    /// The gateway crashed.
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

/// How far a processor is with its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Step {
    #[default]
    Idle,
    Reserving(Record),
    Paying(Record),
    Settling(Record, bool),
    /// The status of this id, as its fence had it.
    Writing {
        id: u8,
        ending: Ending,
        attempt: u8,
    },
}
