//! Named checks, and the verdict that follows from them.

use serde::{Deserialize, Serialize};

use crate::word::{self, Word};

/// Category of a check; decides what its failure means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Whether the generator itself was the bottleneck.
    Validity,
    /// Latency and rates.
    Threshold,
    /// Orders and units.
    Ledger,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Passed.
    Pass,
    /// Failed.
    Fail,
    /// Failed, but only a warning: shown, without effect on the verdict.
    Warned,
    /// Could not be judged; `detail` gives the reason. No effect on the verdict.
    NotJudged,
}

/// One named check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// Stable name in `snake_case`.
    pub name: String,
    /// Category.
    pub kind: CheckKind,
    /// Result.
    pub state: CheckState,
    /// The measured value; `null` if not judged.
    pub value: Option<f64>,
    /// Required relation of `value` to `limit`: `<=`, `>=` or `=`; for alerts also `<`, `>` or `!=`.
    #[serde(deserialize_with = "word::one")]
    pub relation: Word,
    /// The limit.
    pub limit: f64,
    /// Explanation in one sentence.
    pub detail: String,
}

/// A check of `value` against `limit`; NaN fails.
pub fn check(
    name: &str,
    kind: CheckKind,
    value: f64,
    relation: &'static str,
    limit: f64,
    detail: impl Into<String>,
) -> Check {
    let holds = match relation {
        "<=" => value <= limit,
        ">=" => value >= limit,
        // Counts: exact in a double up to 2^53.
        _ => (value - limit).abs() < 0.5,
    };
    let state = if holds { CheckState::Pass } else { CheckState::Fail };
    Check { name: name.to_owned(), kind, state, value: Some(value), relation, limit, detail: detail.into() }
}

/// A check that could not be judged; `why` becomes its detail.
pub fn not_judged(
    name: &str,
    kind: CheckKind,
    relation: &'static str,
    limit: f64,
    why: impl Into<String>,
) -> Check {
    let state = CheckState::NotJudged;
    Check { name: name.to_owned(), kind, state, value: None, relation, limit, detail: why.into() }
}

/// Result of all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every judged check passed.
    Pass,
    /// A threshold failed; the ledger is correct.
    ThresholdBroken,
    /// A ledger check failed: an order or a unit is not accounted for.
    LedgerViolated,
    /// The generator was the bottleneck; thresholds are meaningless.
    Invalid,
    /// The run was interrupted; nothing was judged.
    Interrupted,
}

impl Verdict {
    /// The worst result of the checks. A ledger failure counts even if the generator was the bottleneck; a
    /// threshold failure does not.
    pub fn of(checks: &[Check]) -> Self {
        let broken = |kind| checks.iter().any(|check| check.kind == kind && check.state == CheckState::Fail);
        if broken(CheckKind::Ledger) {
            Self::LedgerViolated
        } else if broken(CheckKind::Validity) {
            Self::Invalid
        } else if broken(CheckKind::Threshold) {
            Self::ThresholdBroken
        } else {
            Self::Pass
        }
    }

    /// 0 passed, 3 threshold failed, 4 ledger violated, 5 generator saturated, 130 interrupted.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::ThresholdBroken => 3,
            Self::LedgerViolated => 4,
            Self::Invalid => 5,
            Self::Interrupted => 130,
        }
    }

    /// One word and an explanation.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Pass => "PASS: every judged check passed",
            Self::ThresholdBroken => "FAIL: a threshold check failed; no ledger check failed",
            Self::LedgerViolated => "FAIL: an order or a unit is not accounted for",
            Self::Invalid => "INVALID: the generator itself was the bottleneck",
            Self::Interrupted => "INTERRUPTED: nothing was judged",
        }
    }
}
