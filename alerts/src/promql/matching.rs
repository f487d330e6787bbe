//! Which samples of two sides belong together, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Matching, Operator};
use super::{Labels, Sample};

/// Of two numbers; a comparison says 1 or 0.
#[expect(clippy::float_cmp, reason = "the language compares exactly")]
pub(super) fn combined(operator: Operator, left: f64, right: f64) -> f64 {
    let truth = |is_true: bool| f64::from(u8::from(is_true));
    match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Modulo => left % right,
        Operator::Power => left.powf(right),
        Operator::Equal => truth(left == right),
        Operator::NotEqual => truth(left != right),
        Operator::Greater => truth(left > right),
        Operator::GreaterOrEqual => truth(left >= right),
        Operator::Less => truth(left < right),
        Operator::LessOrEqual => truth(left <= right),
        // The parser lets these stand between samples of metrics only.
        Operator::And | Operator::Or | Operator::Unless => f64::NAN,
    }
}

/// Samples against a number. `apply` says what a comparison keeps and what the operator comes to.
pub(super) fn filtered(
    samples: Vec<Sample>,
    comparison: bool,
    is_bool: bool,
    apply: impl Fn(f64) -> (f64, f64),
) -> Vec<Sample> {
    let one = |sample: Sample| {
        let (kept, result) = apply(sample.value);
        if comparison && !is_bool {
            return (result > 0.0).then_some(Sample { labels: sample.labels, value: kept });
        }
        Some(Sample { labels: sample.labels.without(&[]), value: result })
    };
    samples.into_iter().filter_map(one).collect()
}

fn key(labels: &Labels, matching: &Matching) -> Labels {
    match matching {
        Matching::On(names) => labels.only(names),
        Matching::Ignoring(names) => labels.without(names),
    }
}

/// `and`, `or`, `unless`.
pub(super) fn sets(
    operator: Operator,
    matching: &Matching,
    left: Vec<Sample>,
    right: Vec<Sample>,
) -> Vec<Sample> {
    let keys = |samples: &[Sample]| -> BTreeSet<Labels> {
        samples.iter().map(|sample| key(&sample.labels, matching)).collect()
    };
    let (of_left, of_right) = (keys(&left), keys(&right));
    let has_partner =
        |sample: &Sample, others: &BTreeSet<Labels>| others.contains(&key(&sample.labels, matching));
    match operator {
        Operator::And => left.into_iter().filter(|sample| has_partner(sample, &of_right)).collect(),
        Operator::Unless => left.into_iter().filter(|sample| !has_partner(sample, &of_right)).collect(),
        _ => {
            let more = right.into_iter().filter(|sample| !has_partner(sample, &of_left));
            left.into_iter().chain(more).collect()
        }
    }
}

/// Arithmetic and comparison, one sample to one.
pub(super) fn pairs(
    operator: Operator,
    is_bool: bool,
    matching: &Matching,
    left: Vec<Sample>,
    right: &[Sample],
) -> Result<Vec<Sample>, String> {
    let mut partners: BTreeMap<Labels, f64> = BTreeMap::new();
    for sample in right {
        if partners.insert(key(&sample.labels, matching), sample.value).is_some() {
            return Err(twice("right", &sample.labels));
        }
    }
    let mut met = BTreeSet::new();
    let mut joined = Vec::new();
    for sample in left {
        let key = key(&sample.labels, matching);
        let Some(&partner) = partners.get(&key) else { continue };
        if !met.insert(key) {
            return Err(twice("left", &sample.labels));
        }
        let result = combined(operator, sample.value, partner);
        let is_filter = operator.is_comparison() && !is_bool;
        if is_filter && result <= 0.0 {
            continue;
        }
        let labels = match matching {
            Matching::On(names) => sample.labels.only(names),
            Matching::Ignoring(names) if is_filter && names.is_empty() => sample.labels,
            Matching::Ignoring(names) => sample.labels.without(names),
        };
        joined.push(Sample { labels, value: if is_filter { sample.value } else { result } });
    }
    Ok(joined)
}

fn twice(side: &str, labels: &Labels) -> String {
    format!("several samples on the {side} side belong to one of the other side, such as {}", labels.text())
}
