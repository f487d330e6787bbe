//! How the reply of each encoded command is decoded.

use super::scripts::Script;

/// How to decode the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reply of a script.
    Eval(Script),
    /// An array of script replies, one per order.
    EvalMany(Script, u32),
    /// The former value of a claimed id, if it had one.
    Claim {
        fingerprint: u64,
        accepted_at_ms: u64,
    },
    /// Whether a `SET … NX` set the key.
    IsSet,
    /// A text, or nil.
    Text,
    Number,
    /// Only OK.
    Done,
    Status,
    /// With the number of requested ids.
    Statuses(u32),
    Stock(u32),
    Ledgers(u32),
    Internal(Internal),
}

/// Commands that the connection itself sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Internal {
    Auth,
    Select,
    /// In the handshake.
    Load(Script),
    /// After NOSCRIPT.
    Reload(Script),
    /// INFO: `run_id` changes at a restart, `master_replid` at a promotion. Only for processors.
    Identify,
    /// Checks that the server accepts writes. For tools, which process no orders.
    Probe,
    /// Checks that every command of this role would work. The script, and whether the probe belongs to the
    /// handshake.
    ProbeSteps(Script, bool),
}

impl Kind {
    /// Number of commands that this reply answers.
    pub(super) fn commands(self) -> u32 {
        if let Self::EvalMany(_, orders) = self { orders } else { 1 }
    }

    /// The script that the command needs.
    pub(super) fn script(self) -> Option<Script> {
        match self {
            Self::Eval(script) | Self::EvalMany(script, _) => Some(script),
            Self::Ledgers(_) => Some(Script::Ledgers),
            _ => None,
        }
    }
}
