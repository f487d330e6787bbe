//! The Lua scripts and the policy constants compiled into them.
//!
//! The policy is prepended as constants, so a script takes fewer arguments and its SHA depends on the policy:
//! two gateways with different policies cannot run each other's scripts by mistake.

use std::fmt::Write as _;

use crate::Policy;

/// A Lua script; Redis executes it atomically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Count,
    Uncount,
    ReleaseId,
    TakeOver,
    Suspend,
    Reserve,
    Settle,
    Refund,
    FailedStatus,
    Import,
    SetStock,
    AddStock,
    Ledgers,
    ProbeGateway,
    ProbeProcessor,
}

impl Script {
    pub(super) const ALL: [Self; 15] = [
        Self::Count,
        Self::Uncount,
        Self::ReleaseId,
        Self::TakeOver,
        Self::Suspend,
        Self::Reserve,
        Self::Settle,
        Self::Refund,
        Self::FailedStatus,
        Self::Import,
        Self::SetStock,
        Self::AddStock,
        Self::Ledgers,
        Self::ProbeGateway,
        Self::ProbeProcessor,
    ];

    fn body(self) -> &'static str {
        match self {
            Self::Count => include_str!("scripts/count.lua"),
            Self::Uncount => include_str!("scripts/uncount.lua"),
            Self::ReleaseId => include_str!("scripts/release_id.lua"),
            Self::TakeOver => include_str!("scripts/take_over.lua"),
            Self::Suspend => include_str!("scripts/suspend.lua"),
            Self::Reserve => include_str!("scripts/reserve.lua"),
            Self::Settle => include_str!("scripts/settle.lua"),
            Self::Refund => include_str!("scripts/refund.lua"),
            Self::FailedStatus => include_str!("scripts/failed_status.lua"),
            Self::Import => include_str!("scripts/import.lua"),
            Self::SetStock => include_str!("scripts/set_stock.lua"),
            Self::AddStock => include_str!("scripts/add_stock.lua"),
            Self::Ledgers => include_str!("scripts/ledgers.lua"),
            Self::ProbeGateway => include_str!("scripts/probe_gateway.lua"),
            Self::ProbeProcessor => include_str!("scripts/probe_processor.lua"),
        }
    }

    /// The source sent to Redis: the constants and functions that the body uses, then the body.
    pub(super) fn source(self, policy: &Policy) -> String {
        const FUNCTIONS: [(&str, &str); 3] = [
            ("KNOWN_UNITS(", include_str!("scripts/known_units.lua")),
            ("WRITE_FENCES(", include_str!("scripts/write_fences.lua")),
            ("PROBE(", include_str!("scripts/probe.lua")),
        ];
        let body = self.body();
        let functions: String =
            FUNCTIONS.iter().filter(|(name, _)| body.contains(name)).map(|(_, text)| *text).collect();
        let mut source = String::new();
        for (name, value) in constants(policy) {
            if body.contains(name) || functions.contains(name) {
                // Writing to a string cannot fail.
                let _ = writeln!(source, "local {name} = {value}");
            }
        }
        source + &functions + body
    }
}

/// The status TTL is a string: Redis takes it as an argument, and Lua would format a number again in each
/// call.
fn constants(policy: &Policy) -> [(&'static str, String); 3] {
    let Policy {
        rate_limit_max_requests: limit,
        rate_limit_window_ms: window_ms,
        order_status_ttl_ms,
        takeover_after_ms: _,
    } = policy;
    [
        ("LIMIT", limit.to_string()),
        ("WINDOW_MS", window_ms.to_string()),
        ("ORDER_STATUS_TTL", format!("'{order_status_ttl_ms}'")),
    ]
}

/// SHAs of the scripts, as returned by SCRIPT LOAD.
#[derive(Debug, Clone)]
pub(super) struct Shas([[u8; 40]; Script::ALL.len()]);

impl Shas {
    pub(super) fn unknown() -> Self {
        Self([[b'0'; 40]; Script::ALL.len()])
    }

    pub(super) fn of(&self, script: Script) -> &[u8; 40] {
        &self.0[script as usize]
    }

    pub(super) fn set(&mut self, script: Script, sha: [u8; 40]) {
        self.0[script as usize] = sha;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_starts_with_only_the_constants_it_uses() {
        let policy = Policy {
            rate_limit_max_requests: 60,
            rate_limit_window_ms: 60_000,
            order_status_ttl_ms: 86_400_000,
            takeover_after_ms: 2500,
        };
        let settle = Script::Settle.source(&policy);
        assert!(settle.starts_with("local ORDER_STATUS_TTL = '86400000'\n"), "{settle}");
        for (name, _) in constants(&policy) {
            assert_eq!(settle.contains(&format!("local {name} ")), name == "ORDER_STATUS_TTL", "{name}");
        }
        for script in Script::ALL {
            let index = Script::ALL.iter().position(|&other| other == script);
            assert_eq!(index, Some(script as usize));
        }
    }
}
