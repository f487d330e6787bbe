//! What an expression comes to at one moment.

use std::collections::BTreeMap;

use super::ast::{Aggregation, Expr, Grouping, Operator, RangeFunction, Selector, SimpleFunction};
use super::matching;
use super::{History, Labels, Sample, Value, functions};

pub(super) fn evaluate(expr: &Expr, history: &History, now_ms: i64) -> Result<Value, String> {
    let inner = |expr: &Expr| evaluate(expr, history, now_ms);
    Ok(match expr {
        Expr::Number(number) => Value::Scalar(*number),
        Expr::Selector(selector) => {
            let newest = history.newest(&selector.name, now_ms).filter(|(labels, _)| fits(selector, labels));
            Value::Vector(
                newest.map(|(labels, point)| Sample { labels: labels.clone(), value: point.value }).collect(),
            )
        }
        // The parser lets a range stand in a function only.
        Expr::Range { .. } => return Err("a range by itself has no value".to_owned()),
        Expr::OverRange { function, selector, range_ms } => {
            over_range(*function, selector, *range_ms, history, now_ms)
        }
        Expr::Simple { function, inner: of } => {
            let apply = match function {
                SimpleFunction::Abs => f64::abs,
                SimpleFunction::Ceil => f64::ceil,
                SimpleFunction::Floor => f64::floor,
            };
            mapped(inner(of)?, apply)
        }
        Expr::Negated(of) => mapped(inner(of)?, |value| -value),
        Expr::Quantile { quantile, buckets } => {
            let Value::Scalar(quantile) = inner(quantile)? else {
                return Err("the quantile has to be one number".to_owned());
            };
            Value::Vector(functions::histogram_quantiles(quantile, &inner(buckets)?.samples()))
        }
        Expr::Aggregate { how, grouping, inner: of } => {
            Value::Vector(aggregated(*how, grouping, inner(of)?.samples()))
        }
        Expr::Binary { operator, is_bool, matching, left, right } => {
            let (left, right) = (inner(left)?, inner(right)?);
            return joined(*operator, *is_bool, matching, left, right);
        }
    })
}

fn fits(selector: &Selector, labels: &Labels) -> bool {
    selector.matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name)))
}

/// Arithmetic and functions take the name of the metric away: the result is not that metric.
fn mapped(value: Value, apply: impl Fn(f64) -> f64) -> Value {
    match value {
        Value::Scalar(value) => Value::Scalar(apply(value)),
        Value::Vector(samples) => {
            let one =
                |sample: Sample| Sample { labels: sample.labels.without(&[]), value: apply(sample.value) };
            Value::Vector(samples.into_iter().map(one).collect())
        }
    }
}

fn over_range(
    function: RangeFunction,
    selector: &Selector,
    range_ms: i64,
    history: &History,
    now_ms: i64,
) -> Value {
    let from_ms = now_ms - range_ms;
    let series = history.within(&selector.name, from_ms, now_ms).filter(|(labels, _)| fits(selector, labels));
    let value = |(labels, points): (&Labels, Vec<super::super::history::Point>)| {
        let value = functions::over_range(function, &points, from_ms, now_ms)?;
        Some(Sample { labels: labels.without(&[]), value })
    };
    Value::Vector(series.filter_map(value).collect())
}

fn aggregated(how: Aggregation, grouping: &Grouping, samples: Vec<Sample>) -> Vec<Sample> {
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        let group = match grouping {
            Grouping::By(names) => sample.labels.only(names),
            Grouping::Without(names) => sample.labels.without(names),
        };
        groups.entry(group).or_default().push(sample.value);
    }
    let one = |(labels, values): (Labels, Vec<f64>)| {
        let count = values.len() as f64;
        // Of a number and NaN, `min` and `max` take the number, as Prometheus does.
        let value = match how {
            Aggregation::Sum => values.into_iter().sum(),
            Aggregation::Avg => values.into_iter().sum::<f64>() / count,
            Aggregation::Count => count,
            Aggregation::Min => values.into_iter().fold(f64::NAN, f64::min),
            Aggregation::Max => values.into_iter().fold(f64::NAN, f64::max),
        };
        Sample { labels, value }
    };
    groups.into_iter().map(one).collect()
}

fn joined(
    operator: Operator,
    is_bool: bool,
    matching: &super::ast::Matching,
    left: Value,
    right: Value,
) -> Result<Value, String> {
    let comparison = operator.is_comparison();
    Ok(match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => {
            Value::Scalar(matching::combined(operator, left, right))
        }
        (Value::Vector(samples), Value::Scalar(number)) => {
            Value::Vector(matching::filtered(samples, comparison, is_bool, |value| {
                (value, matching::combined(operator, value, number))
            }))
        }
        (Value::Scalar(number), Value::Vector(samples)) => {
            Value::Vector(matching::filtered(samples, comparison, is_bool, |value| {
                (value, matching::combined(operator, number, value))
            }))
        }
        (Value::Vector(left), Value::Vector(right)) if operator.is_set() => {
            Value::Vector(matching::sets(operator, matching, left, right))
        }
        (Value::Vector(left), Value::Vector(right)) => {
            Value::Vector(matching::pairs(operator, is_bool, matching, left, &right)?)
        }
    })
}
