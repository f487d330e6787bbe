//! The part of PromQL that rule files of a deployment use, with Prometheus' meaning: literals, selectors, `rate` and
//! similar functions, aggregation, `histogram_quantile`, arithmetic, comparison, `and`, `or`, `unless`.
//!
//! `promql-parser` parses; `parse` rejects everything else by its name. No IO, no clock: the time of an evaluation is an
//! argument.
//!
//! It follows Prometheus 2.42: a range includes its left end (3.x leaves it out), and `rate` extrapolates as
//! that version does. Over scraped samples the two differ by at most one sample.

use self::ast::Expr;
use super::history::{History, Labels};

/// What an expression is made of.
pub mod ast;

mod guard;

mod lower;

mod eval;

mod functions;

mod matching;

/// What an expression comes to at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One number.
    Scalar(f64),
    /// A number for each set of labels, none twice.
    Vector(Vec<Sample>),
}

impl Value {
    /// Its samples; a number counts as one without labels.
    pub fn samples(self) -> Vec<Sample> {
        match self {
            Self::Scalar(value) => vec![Sample { labels: Labels::default(), value }],
            Self::Vector(samples) => samples,
        }
    }
}

/// A number with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of the metric included, where there still is one.
    pub labels: Labels,
    /// The number.
    pub value: f64,
}

/// Parses an expression.
///
/// # Errors
/// When it is wrong, or uses a part of the language that is not supported here: what, in a sentence without a full stop.
pub fn parse(text: &str) -> Result<Expr, String> {
    lower::parse(text)
}

/// Evaluates at `now_ms`, Unix time.
///
/// # Errors
/// When Prometheus would fail as well: two samples of one side with the same labels to match.
pub fn evaluate(expr: &Expr, history: &History, now_ms: i64) -> Result<Value, String> {
    eval::evaluate(expr, history, now_ms)
}
