//! Alerts of a Prometheus rule file, evaluated on scraped samples during the run. Each alert becomes a check.
//!
//! Alerts are evaluated after every scrape, so memory does not grow with the run. An alert fires as in
//! Prometheus: when its condition has held for its `for`, separately for each set of labels. A run shorter
//! than the `for` cannot show that, so an alert that is still pending when the run ends counts as fired, because
//! nothing shows that it would have cleared. An alert that could not be evaluated is not judged and never
//! counts as passed.
//!
//! Called by: loadgen.

use std::collections::BTreeMap;

use history::{History, Labels};
use measure::Measure;
use report::{Check, CheckKind, CheckState};

pub use rule_file::{Alert, RuleFileError, Rules};

/// Scraped samples.
pub mod history;

/// Durations.
mod duration;

/// Splits a condition into a value and a limit.
mod measure;

/// Expressions.
pub mod promql;

/// Reads rule files.
mod rule_file;

impl Rules {
    /// An empty history that keeps the metrics of these alerts.
    pub fn history(&self) -> History {
        let (mut names, mut longest_ms) = (Vec::new(), 0);
        for alert in &self.alerts {
            alert.expr.selectors(&mut |selector, range_ms| {
                names.push(selector.name.as_str());
                longest_ms = longest_ms.max(range_ms);
            });
        }
        History::new(names, longest_ms)
    }

    /// Names in `ignored` that no alert has.
    pub fn unknown<'a>(&self, ignored: &'a [String]) -> Vec<&'a str> {
        let is_unknown = |name: &&String| self.alerts.iter().all(|alert| alert.name != **name);
        ignored.iter().filter(is_unknown).map(String::as_str).collect()
    }
}

impl Alert {
    /// Name of the check: `alert_` and the alert's name in snake case.
    pub fn check_name(&self) -> String {
        let mut name = String::from("alert");
        let mut before = '_';
        let letters: Vec<char> = self.name.chars().collect();
        for (at, &letter) in letters.iter().enumerate() {
            let is_start = letter.is_uppercase()
                && (!before.is_uppercase() || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
            if (at == 0 || is_start || !letter.is_alphanumeric()) && !name.ends_with('_') {
                name.push('_');
            }
            if letter.is_alphanumeric() {
                name.extend(letter.to_lowercase());
            }
            before = letter;
        }
        name.trim_end_matches('_').to_owned()
    }

    /// A warning is shown and does not affect the verdict.
    pub fn is_warning(&self) -> bool {
        self.labels.get("severity").is_some_and(|severity| matches!(&**severity, "warning" | "info"))
    }
}

/// Maximum share of failed scrapes of a page for which an alert whose condition was never seen to hold still
/// passes.
const FAILED_SHARE_MAX: f64 = 0.1;

/// Result of scraping one page; decides which alerts can be judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Value of the label `job` of its series.
    pub job: String,
    /// Number of scrapes.
    pub scrapes: u64,
    /// Number of failed scrapes.
    pub failed: u64,
    /// Reason of the last failure.
    pub reason: String,
}

/// All alerts of a file over one run.
#[derive(Debug)]
pub struct AlertEvaluator {
    alerts: Vec<AlertState>,
    /// First and last evaluation, Unix time in milliseconds.
    span_ms: Option<(i64, i64)>,
}

#[derive(Debug)]
struct AlertState {
    alert: Alert,
    measure: Option<Measure>,
    is_ignored: bool,
    /// Time since which the condition has held, by labels.
    active: BTreeMap<Labels, i64>,
    fired: Option<Fired>,
    /// The condition held in at least one evaluation.
    has_held: bool,
    longest_ms: i64,
    /// Worst value of the compared side; `None` if there was no value.
    worst: Option<f64>,
    error: Option<String>,
}

#[derive(Debug)]
struct Fired {
    at_ms: i64,
    labels: Labels,
}

impl AlertEvaluator {
    /// An evaluator without any evaluation yet. Alerts with names in `ignored` are not judged.
    pub fn new(rules: &Rules, ignored: &[String]) -> Self {
        let one = |alert: &Alert| AlertState {
            measure: Measure::of(&alert.expr),
            is_ignored: ignored.contains(&alert.name),
            alert: alert.clone(),
            active: BTreeMap::new(),
            fired: None,
            has_held: false,
            longest_ms: 0,
            worst: None,
            error: None,
        };
        Self { alerts: rules.alerts.iter().map(one).collect(), span_ms: None }
    }

    /// Evaluates every alert. `now_ms` is Unix time and increases from call to call.
    pub fn evaluate(&mut self, history: &History, now_ms: i64) {
        let (first_ms, _) = self.span_ms.unwrap_or((now_ms, now_ms));
        self.span_ms = Some((first_ms, now_ms));
        for one in &mut self.alerts {
            if let Err(reason) = one.evaluate(history, now_ms) {
                one.active.clear();
                one.error.get_or_insert(reason);
            }
        }
    }

    /// The alerts that were firing at the last evaluation, with their labels.
    pub fn firing(&self) -> Vec<(&str, &Labels)> {
        let now_ms = self.span_ms.map_or(0, |(_, last_ms)| last_ms);
        let mut firing = Vec::new();
        for one in &self.alerts {
            let held = one.active.iter().filter(|(_, since_ms)| now_ms - **since_ms >= one.alert.for_ms);
            firing.extend(held.map(|(labels, _)| (&*one.alert.name, labels)));
        }
        firing
    }

    /// One check per alert; `start_ms` is the Unix time of the first arrival.
    pub fn checks(&self, history: &History, pages: &[Coverage], start_ms: i64) -> Vec<Check> {
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        let mut checks = Vec::with_capacity(self.alerts.len());
        for one in &self.alerts {
            let mut check = self.check(one, history, pages, start_ms);
            // Prometheus allows a name twice, for example with another severity.
            let count = times.entry(check.name.clone()).or_default();
            *count += 1;
            if *count > 1 {
                check.name = format!("{}_{count}", check.name);
            }
            checks.push(check);
        }
        checks
    }

    fn check(&self, one: &AlertState, history: &History, pages: &[Coverage], start_ms: i64) -> Check {
        let AlertState { alert, measure, worst, .. } = one;
        let span_ms = self.span_ms.map_or(0, |(first_ms, last_ms)| last_ms - first_ms);
        let is_short = span_ms < alert.for_ms;
        let pending = one.active.iter().min_by_key(|(_, since_ms)| **since_ms).filter(|_| is_short);
        let holds = one.fired.is_some() || pending.is_some();
        let (state, detail) = if one.is_ignored {
            (CheckState::NotJudged, "ignored by --ignore-alert".to_owned())
        } else if let Some(fired) = &one.fired {
            (
                fails(alert),
                format!(
                    "fired {} after the first arrival{}",
                    seconds(fired.at_ms - start_ms),
                    fired.labels.text()
                ),
            )
        } else if let Some((labels, since_ms)) = pending {
            let detail = format!(
                "held from {} to the end of the run{}; that is shorter than its for of {} and counts as fired",
                seconds(since_ms - start_ms),
                labels.text(),
                seconds(alert.for_ms)
            );
            (fails(alert), detail)
        } else if let Some(reason) = one.unjudged(history, pages) {
            (CheckState::NotJudged, reason)
        } else if one.has_held {
            let (held, needs) = (seconds(one.longest_ms), seconds(alert.for_ms));
            (CheckState::Pass, format!("held for at most {held}, fires after {needs}"))
        } else {
            (CheckState::Pass, "never held".to_owned())
        };
        let is_judged = state != CheckState::NotJudged;
        let (value, relation, limit) = match measure {
            Some(measure) => (*worst, measure.relation(), measure.limit),
            None => (Some(f64::from(u8::from(holds))), "=", 0.0),
        };
        Check {
            name: alert.check_name(),
            kind: CheckKind::Threshold,
            state,
            value: value.filter(|_| is_judged),
            relation,
            limit,
            detail: format!("{detail}: {}", alert.text),
        }
    }
}

fn fails(alert: &Alert) -> CheckState {
    if alert.is_warning() { CheckState::Warned } else { CheckState::Fail }
}

fn seconds(ms: i64) -> String {
    if ms % 1_000 == 0 { format!("{} s", ms / 1_000) } else { format!("{:.1} s", ms as f64 / 1e3) }
}

impl AlertState {
    fn evaluate(&mut self, history: &History, now_ms: i64) -> Result<(), String> {
        if let Some(measure) = &self.measure {
            for sample in promql::evaluate(&measure.expr, history, now_ms)?.samples() {
                if !sample.value.is_nan() {
                    let worst = self.worst.unwrap_or(sample.value);
                    self.worst = Some(measure.worse(sample.value, worst));
                }
            }
        }
        let mut active = BTreeMap::new();
        for sample in promql::evaluate(&self.alert.expr, history, now_ms)?.samples() {
            let labels = sample.labels.without(&[]);
            let since_ms = self.active.get(&labels).copied().unwrap_or(now_ms);
            self.longest_ms = self.longest_ms.max(now_ms - since_ms);
            if now_ms - since_ms >= self.alert.for_ms && self.fired.is_none() {
                self.fired = Some(Fired { at_ms: now_ms, labels: labels.clone() });
            }
            active.insert(labels, since_ms);
        }
        self.has_held |= !active.is_empty();
        self.active = active;
        Ok(())
    }

    /// Why an alert that did not fire cannot be counted as passed; `None` if it can.
    fn unjudged(&self, history: &History, pages: &[Coverage]) -> Option<String> {
        if let Some(reason) = &self.error {
            return Some(format!("it could not be evaluated: {reason}"));
        }
        let mut missing = Vec::new();
        self.alert.expr.selectors(&mut |selector, _| {
            if !history.knows(&selector.name) && !missing.contains(&selector.name) {
                missing.push(selector.name.clone());
            }
        });
        if !missing.is_empty() {
            return Some(format!("{} is on no scraped page", missing.join(", ")));
        }
        if self.measure.is_some() && self.worst.is_none() {
            return Some("there was never a value to compare".to_owned());
        }
        if history.refused() > 0 {
            return Some(format!("more than {} series", history::SERIES_MAX));
        }
        // A condition that held may also have held during a gap.
        let share_max = if self.has_held { 0.0 } else { FAILED_SHARE_MAX };
        let mut gaps = None;
        self.alert.expr.selectors(&mut |selector, _| {
            let with_gaps = |page: &&Coverage| {
                page.failed as f64 > page.scrapes as f64 * share_max
                    && history.has_job(&selector.name, &page.job)
            };
            gaps = gaps.take().or_else(|| pages.iter().find(with_gaps));
        });
        gaps.map(|Coverage { job, scrapes, failed, reason }| {
            format!("{failed} of {scrapes} scrapes of the {job} failed, the last one with: {reason}")
        })
    }
}
