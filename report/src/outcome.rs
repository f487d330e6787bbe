//! Outcomes of a request. Latencies of different outcomes are never mixed.

use std::fmt;

/// Outcome of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// 202: Kafka has acknowledged the order.
    Accepted,
    /// 400.
    Invalid,
    /// 409.
    Duplicate,
    /// 410.
    SoldOut,
    /// 422.
    Mismatch,
    /// 429.
    Limited,
    /// 500.
    Failed,
    /// 503.
    Unavailable,
    /// Any other status, or bytes that are not an HTTP/1.1 response.
    Other,
    /// Sent, and no response within the timeout.
    Timeout,
    /// Sent, and the connection ended before the response.
    Reset,
    /// Never sent: no connection was free within the timeout.
    Unsent,
}

/// Number of outcomes.
pub const OUTCOMES: usize = 12;

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; OUTCOMES] = [
        Self::Accepted,
        Self::Invalid,
        Self::Duplicate,
        Self::SoldOut,
        Self::Mismatch,
        Self::Limited,
        Self::Failed,
        Self::Unavailable,
        Self::Other,
        Self::Timeout,
        Self::Reset,
        Self::Unsent,
    ];

    /// The outcome for a status code.
    pub fn of_status(status: u16) -> Self {
        match status {
            202 => Self::Accepted,
            400 => Self::Invalid,
            409 => Self::Duplicate,
            410 => Self::SoldOut,
            422 => Self::Mismatch,
            429 => Self::Limited,
            500 => Self::Failed,
            503 => Self::Unavailable,
            _ => Self::Other,
        }
    }

    /// Name in reports: the status code, or a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "202",
            Self::Invalid => "400",
            Self::Duplicate => "409",
            Self::SoldOut => "410",
            Self::Mismatch => "422",
            Self::Limited => "429",
            Self::Failed => "500",
            Self::Unavailable => "503",
            Self::Other => "other",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Unsent => "unsent",
        }
    }

    /// The outcome with this name in reports.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// Meaning in two words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => "order queued",
            Self::Invalid => "invalid order",
            Self::Duplicate => "duplicate id",
            Self::SoldOut => "sold out",
            Self::Mismatch => "reused id",
            Self::Limited => "rate limited",
            Self::Failed => "server error",
            Self::Unavailable => "unavailable",
            Self::Other => "unexpected response",
            Self::Timeout => "no response",
            Self::Reset => "connection lost",
            Self::Unsent => "no connection",
        }
    }

    /// True if the target sent a response, whether or not its status is in the contract.
    pub const fn is_response(self) -> bool {
        !matches!(self, Self::Timeout | Self::Reset | Self::Unsent)
    }

    /// True for failures from the buyer's view: neither an accepted order nor a refusal with a reason.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Failed | Self::Unavailable | Self::Other | Self::Timeout | Self::Reset | Self::Unsent
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            if let Ok(status) = outcome.name().parse() {
                assert_eq!(Outcome::of_status(status), outcome);
            }
        }
        assert_eq!(Outcome::of_status(200), Outcome::Other);
    }
}
