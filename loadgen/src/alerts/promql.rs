//! The part of `PromQL` that rule files of a deployment use, with Prometheus' meaning: literals, selectors,
//! `rate` and its kin, aggregation, `histogram_quantile`, arithmetic, comparison, `and`, `or`, `unless`.
//!
//! Everything else is an error of [`parse`] that names the place; nothing is guessed. No IO, no clock: the
//! time of an evaluation is an argument.
//!
//! It follows Prometheus 2.42: a range includes its left end (3.x leaves it out), and `rate` extrapolates as
//! that version does. Over scraped samples the two differ by at most one sample.

use std::fmt;

use self::ast::Expr;
use super::history::{History, Labels};

/// What an expression is made of.
pub mod ast;

mod lex;

mod parse;

mod eval;

mod functions;

mod matching;

/// A wrong expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, in characters from the start of the expression, from 1.
    pub character: usize,
    /// What, in a sentence without a full stop.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "character {}: {}", self.character, self.reason)
    }
}

impl std::error::Error for Mistake {}

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

/// Reads an expression.
///
/// # Errors
/// [`Mistake`] when it is wrong, or outside the part that is understood here.
pub fn parse(text: &str) -> Result<Expr, Mistake> {
    parse::parse(text)
}

/// Evaluates at `now_ms`, Unix time.
///
/// # Errors
/// When Prometheus would fail as well: two samples of one side with the same labels to match.
pub fn evaluate(expr: &Expr, history: &History, now_ms: i64) -> Result<Value, String> {
    eval::evaluate(expr, history, now_ms)
}

/// Reads `5m`, `1h30m` or `250ms` as milliseconds; `None` when it is none of these.
pub fn duration_ms(text: &str) -> Option<i64> {
    lex::duration_ms(text)
}
