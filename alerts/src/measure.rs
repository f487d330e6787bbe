//! Splits a condition into a value and a limit, for the report.

use super::promql::ast::{Expr, Matching, Operator};

/// The compared side of a condition.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    /// Evaluates to the compared values, filtered by the rest of the condition.
    pub(super) expr: Expr,
    /// Relation of a value to the limit when the condition holds.
    pub(super) operator: Operator,
    pub(super) limit: f64,
}

impl Measure {
    /// Supports `a > 3`, `3 < a`, `a > b` (their difference, against 0) and `(any of these) and c`.
    pub(super) fn of(condition: &Expr) -> Option<Self> {
        let Expr::Binary { operator, is_bool, matching, left, right } = condition else { return None };
        match operator {
            Operator::And | Operator::Unless => {
                let of_left = Self::of(left)?;
                let expr = Expr::Binary {
                    operator: *operator,
                    is_bool: false,
                    matching: matching.clone(),
                    left: Box::new(of_left.expr),
                    right: right.clone(),
                };
                Some(Self { expr, ..of_left })
            }
            Operator::Or => Self::of(left),
            comparison if comparison.is_comparison() && !is_bool => {
                Some(Self::of_comparison(*comparison, matching, left, right))
            }
            _ => None,
        }
    }

    fn of_comparison(operator: Operator, matching: &Matching, left: &Expr, right: &Expr) -> Self {
        match (constant(left), constant(right)) {
            (_, Some(limit)) => Self { expr: left.clone(), operator, limit },
            (Some(limit), None) => Self { expr: right.clone(), operator: mirrored(operator), limit },
            (None, None) => {
                let expr = Expr::Binary {
                    operator: Operator::Subtract,
                    is_bool: false,
                    matching: matching.clone(),
                    left: Box::new(left.clone()),
                    right: Box::new(right.clone()),
                };
                Self { expr, operator, limit: 0.0 }
            }
        }
    }

    /// The worse of two values.
    pub(super) fn worse(&self, one: f64, other: f64) -> f64 {
        let distance = |value: f64| (value - self.limit).abs();
        let is_one = match self.operator {
            Operator::Greater | Operator::GreaterOrEqual => one >= other,
            Operator::Less | Operator::LessOrEqual => one <= other,
            Operator::Equal => distance(one) <= distance(other),
            _ => distance(one) >= distance(other),
        };
        if is_one { one } else { other }
    }

    /// Relation of a value to the limit that keeps the alert from firing.
    pub(super) fn relation(&self) -> &'static str {
        match self.operator {
            Operator::Greater => "<=",
            Operator::GreaterOrEqual => "<",
            Operator::Less => ">=",
            Operator::LessOrEqual => ">",
            Operator::Equal => "!=",
            _ => "=",
        }
    }
}

/// The value of an expression without metrics.
fn constant(expr: &Expr) -> Option<f64> {
    if !expr.is_scalar() {
        return None;
    }
    match super::promql::evaluate(expr, &super::history::History::default(), 0) {
        Ok(super::promql::Value::Scalar(number)) => Some(number),
        _ => None,
    }
}

fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        other => other,
    }
}
