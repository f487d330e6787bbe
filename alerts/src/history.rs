//! Scraped samples by series, kept for as long as the expressions need them.

use std::collections::{BTreeMap, VecDeque};

/// Lookback of an instant selector, as in Prometheus.
pub const LOOKBACK_MS: i64 = 300_000;
/// Maximum number of series: one gauge for each of 1,024 items, and the same number for everything else.
pub const SERIES_MAX: usize = 2_048;
/// Number of samples above which a series is thinned out: five minutes at two per second. At 16 bytes each,
/// the whole history stays below 40 MB, and needs about 1 MB for the pages of one gateway and one processor.
const SAMPLES_MAX: i64 = 600;

/// Name of the label that holds the name of the metric.
pub const NAME: &str = "__name__";

/// Labels of a series, sorted; the metric name is the label `__name__`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Labels from pairs of name and value.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Parses `name{label="value",…}` as on a metrics page; `None` if the text is malformed.
    pub fn of_series(series: &str) -> Option<Self> {
        let (name, rest) = series.split_at(series.find('{').unwrap_or(series.len()));
        let mut labels = Self::new([(NAME, name.trim())]);
        let mut rest = rest.strip_prefix('{').unwrap_or("}");
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if rest.starts_with('}') {
                return Some(labels);
            }
            let (label, after) = rest.split_once('=')?;
            let (value, after) = unquoted(after.trim_start())?;
            labels.0.insert(label.trim().to_owned(), value);
            rest = after;
        }
    }

    /// The value of a label; empty if it is missing.
    pub fn get(&self, label: &str) -> &str {
        self.0.get(label).map_or("", String::as_str)
    }

    /// These labels with this one added or replaced.
    #[must_use]
    pub fn with(mut self, label: &str, value: &str) -> Self {
        self.0.insert(label.to_owned(), value.to_owned());
        self
    }

    /// Only the labels with these names.
    #[must_use]
    pub fn only(&self, names: &[String]) -> Self {
        self.kept(|label| names.iter().any(|name| name == label))
    }

    /// All labels except these and the metric name.
    #[must_use]
    pub fn without(&self, names: &[String]) -> Self {
        self.kept(|label| label != NAME && !names.iter().any(|name| name == label))
    }

    fn kept(&self, keeps: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(label, _)| keeps(label)).map(|(l, v)| (l.clone(), v.clone())).collect())
    }

    /// As text, `{a="1",b="2"}`, without the metric name; empty without other labels.
    pub fn text(&self) -> String {
        let pair = |(label, value): (&String, &String)| format!("{label}={value:?}");
        let pairs: Vec<_> = self.0.iter().filter(|(label, _)| *label != NAME).map(pair).collect();
        if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
    }
}

/// The quoted text at the start, unescaped, and the rest after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// The special NaN with which Prometheus marks the end of a series.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// One value at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Unix time, milliseconds.
    pub at_ms: i64,
    /// The value.
    pub value: f64,
}

impl Point {
    fn is_stale(self) -> bool {
        self.value.to_bits() == STALE_BITS
    }
}

/// Samples of the metrics that the expressions use. Bounded by [`SERIES_MAX`] series and by the time range of
/// the expressions.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By metric name, then by labels.
    families: BTreeMap<String, BTreeMap<Labels, VecDeque<Point>>>,
    keep_ms: i64,
    series: usize,
    refused: u64,
}

impl History {
    /// Keeps the metrics with these names for `range_ms`, and at least for [`LOOKBACK_MS`].
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, range_ms: i64) -> Self {
        let families = names.into_iter().map(|name| (name.to_owned(), BTreeMap::new())).collect();
        Self { families, keep_ms: range_ms.max(LOOKBACK_MS), series: 0, refused: 0 }
    }

    /// Whether metrics with this name are kept.
    pub fn wants(&self, name: &str) -> bool {
        self.families.contains_key(name)
    }

    /// Whether a metric with this name was ever seen.
    pub fn knows(&self, name: &str) -> bool {
        self.families.get(name).is_some_and(|family| !family.is_empty())
    }

    /// Whether a metric with this name was ever on a page of this job.
    pub fn has_job(&self, name: &str, job: &str) -> bool {
        self.families.get(name).is_some_and(|family| family.keys().any(|labels| labels.get("job") == job))
    }

    /// Number of samples rejected because of [`SERIES_MAX`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a sample if it is newer than the others of its series; older and unused samples are ignored.
    pub fn push(&mut self, labels: &Labels, at_ms: i64, value: f64) {
        let Some(family) = self.families.get_mut(labels.get(NAME)) else { return };
        if !family.contains_key(labels) {
            if self.series == SERIES_MAX {
                self.refused += 1;
                return;
            }
            self.series += 1;
            family.insert(labels.clone(), VecDeque::new());
        }
        let Some(points) = family.get_mut(labels) else { return };
        if points.back().is_some_and(|last| last.at_ms >= at_ms) {
            return;
        }
        // The newest point is always kept; the one before it is removed if it is too close to its
        // predecessor.
        let spacing_ms = self.keep_ms / SAMPLES_MAX;
        if let [.., before, last] = &*points.make_contiguous()
            && last.at_ms - before.at_ms < spacing_ms
            && !last.is_stale()
        {
            points.pop_back();
        }
        points.push_back(Point { at_ms, value });
        while points.front().is_some_and(|first| first.at_ms < at_ms - self.keep_ms) {
            points.pop_front();
        }
    }

    /// Marks the series of a page that were not on it at `at_ms` as ended, so that they do not count as
    /// unchanged.
    pub fn end_missing(&mut self, at_ms: i64, belongs: impl Fn(&Labels) -> bool) {
        let stale = f64::from_bits(STALE_BITS);
        for (labels, points) in self.families.values_mut().flatten() {
            let is_missing = points.back().is_some_and(|last| last.at_ms < at_ms && !last.is_stale());
            if is_missing && belongs(labels) {
                points.push_back(Point { at_ms, value: stale });
            }
        }
    }

    /// The newest point of each series with this name, not older than [`LOOKBACK_MS`].
    pub(super) fn newest(&self, name: &str, now_ms: i64) -> impl Iterator<Item = (&Labels, Point)> {
        self.families.get(name).into_iter().flatten().filter_map(move |(labels, points)| {
            let newest = points.iter().rev().find(|point| point.at_ms <= now_ms)?;
            (newest.at_ms >= now_ms - LOOKBACK_MS && !newest.is_stale()).then_some((labels, *newest))
        })
    }

    /// The points of each series with this name from `from_ms` to `to_ms`, both inclusive.
    pub(super) fn within(
        &self,
        name: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = (&Labels, Vec<Point>)> {
        self.families.get(name).into_iter().flatten().map(move |(labels, points)| {
            let is_within = |point: &&Point| (from_ms..=to_ms).contains(&point.at_ms) && !point.is_stale();
            (labels, points.iter().filter(is_within).copied().collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_parsed_and_unescaped() {
        let labels = Labels::of_series("a{b=\"x\\\"},y\",le=\"+Inf\"}").expect("well-formed");
        assert_eq!((labels.get("__name__"), labels.get("b"), labels.get("le")), ("a", "x\"},y", "+Inf"));
        assert_eq!(Labels::of_series("a").expect("no labels"), Labels::new([(NAME, "a")]));
        assert_eq!(Labels::of_series("a{b}"), None);
    }

    #[test]
    fn memory_is_bounded_by_series_and_time() {
        let mut history = History::new(["a"], 0);
        let labels = Labels::new([(NAME, "a")]);
        for at_ms in (0..3_600_000).step_by(100) {
            history.push(&labels, at_ms, at_ms as f64);
        }
        let points = &history.families["a"][&labels];
        assert!(points.len() <= 602, "{}", points.len());
        assert_eq!(points.back().map(|point| point.at_ms), Some(3_599_900), "the newest point is kept");
        for item in 0..3_000 {
            history.push(&Labels::new([(NAME, "a"), ("i", &item.to_string())]), 1, 1.0);
        }
        assert_eq!(history.refused(), 3_000 + 1 - SERIES_MAX as u64);
        history.push(&Labels::new([(NAME, "b")]), 1, 1.0);
        assert!(!history.knows("b"));
    }
}
