//! What an expression is made of.

use promql_parser::label::Matcher;

/// An expression whose types are right: what [`super::parse`] lets through can be evaluated.
#[derive(Debug, Clone)]
pub enum Expr {
    /// A literal.
    Number(f64),
    /// The newest sample of each series.
    Selector(Selector),
    /// All samples of the last `range_ms` of each series; an argument of a [`RangeFunction`] only.
    Range {
        /// Which series.
        selector: Selector,
        /// How far back, milliseconds.
        range_ms: i64,
    },
    /// A function over a range.
    OverRange {
        /// Which.
        function: RangeFunction,
        /// Which series.
        selector: Selector,
        /// How far back, milliseconds.
        range_ms: i64,
    },
    /// `abs`, `ceil`, `floor`.
    Simple {
        /// Of each sample.
        function: SimpleFunction,
        /// Whose samples.
        inner: Box<Expr>,
    },
    /// `histogram_quantile`.
    Quantile {
        /// A scalar, 0..=1.
        quantile: Box<Expr>,
        /// Buckets with their label `le`.
        buckets: Box<Expr>,
    },
    /// `sum by (…) (…)` and its kin.
    Aggregate {
        /// How samples of a group become one.
        how: Aggregation,
        /// What a group is.
        grouping: Grouping,
        /// Whose samples.
        inner: Box<Expr>,
    },
    /// Two sides.
    Binary {
        /// What is done with them.
        operator: Operator,
        /// A comparison that says 0 or 1 instead of leaving samples out.
        is_bool: bool,
        /// Which samples belong together.
        matching: Matching,
        /// Left.
        left: Box<Expr>,
        /// Right.
        right: Box<Expr>,
    },
    /// `-x`.
    Negated(Box<Expr>),
}

/// Series of one name.
#[derive(Debug, Clone)]
pub struct Selector {
    /// Of the metric.
    pub name: String,
    /// All of them must match; a label that is not there is empty.
    pub matchers: Vec<Matcher>,
}

/// Functions over the samples of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeFunction {
    /// Of a counter, per second.
    Rate,
    /// Of a counter.
    Increase,
    /// Of a gauge.
    Delta,
    /// Largest.
    Max,
    /// Least.
    Min,
    /// Mean.
    Avg,
    /// Sum.
    Sum,
    /// How many.
    Count,
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimpleFunction {
    /// Without its sign.
    Abs,
    /// Up to a whole number.
    Ceil,
    /// Down to a whole number.
    Floor,
}

/// How samples become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Sum.
    Sum,
    /// Least.
    Min,
    /// Largest.
    Max,
    /// Mean.
    Avg,
    /// How many.
    Count,
}

/// Which labels tell groups apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// These.
    By(Vec<String>),
    /// All but these and the name.
    Without(Vec<String>),
}

/// Which labels make samples of two sides belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matching {
    /// These.
    On(Vec<String>),
    /// All but these and the name; with none, what is written as nothing.
    Ignoring(Vec<String>),
}

/// What is done with two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `^`
    Power,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// Left samples that have a partner on the right.
    And,
    /// Left samples, and right ones without a partner on the left.
    Or,
    /// Left samples without a partner on the right.
    Unless,
}

impl Operator {
    /// `==` to `<=`.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::GreaterOrEqual
                | Self::Less
                | Self::LessOrEqual
        )
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl Expr {
    /// True for one number, false for a number for each set of labels.
    pub fn is_scalar(&self) -> bool {
        match self {
            Self::Number(_) => true,
            Self::Negated(inner) => inner.is_scalar(),
            Self::Binary { left, right, .. } => left.is_scalar() && right.is_scalar(),
            _ => false,
        }
    }

    /// Calls `see` with every selector and how far back it looks.
    pub fn selectors<'a>(&'a self, see: &mut impl FnMut(&'a Selector, i64)) {
        match self {
            Self::Number(_) => {}
            Self::Selector(selector) => see(selector, 0),
            Self::Range { selector, range_ms } | Self::OverRange { selector, range_ms, .. } => {
                see(selector, *range_ms);
            }
            Self::Simple { inner, .. } | Self::Aggregate { inner, .. } | Self::Negated(inner) => {
                inner.selectors(see);
            }
            Self::Quantile { quantile, buckets } => {
                quantile.selectors(see);
                buckets.selectors(see);
            }
            Self::Binary { left, right, .. } => {
                left.selectors(see);
                right.selectors(see);
            }
        }
    }
}
