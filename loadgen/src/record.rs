//! The notes one core takes of its requests, and the notes of all cores together.

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::curve::Curve;
use crate::outcome::{OUTCOMES, Outcome};
use crate::report::Quantiles;
use crate::series::{Coarse, Series};

/// Longest latency that is told apart, nanoseconds; longer ones count as this. The longest time-out of a
/// plan.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// A histogram with three digits from 1 µs on: about 220 KB.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("constant bounds that the crate accepts")
}

/// Latencies of one outcome.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    /// From the intended time.
    pub(crate) intended: Histogram<u64>,
    /// From the real send.
    pub(crate) sent: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { intended: histogram(), sent: histogram() }
    }
}

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// When, from the first arrival of the run on, as the next two.
    pub at_ns: u64,
    /// When it was due.
    pub intended_ns: u64,
    /// When it was really sent; `None` when it never was.
    pub sent_ns: Option<u64>,
}

/// What was noted of one phase, by the intended times.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhaseNotes {
    pub(crate) counts: [u64; OUTCOMES],
    /// From the intended time, answers only.
    pub(crate) latency: Coarse,
}

/// What a core noted.
#[derive(Debug, Clone)]
pub struct Record {
    pub(crate) counts: [u64; OUTCOMES],
    pub(crate) latencies: [Option<Box<Latencies>>; OUTCOMES],
    pub(crate) lateness: Histogram<u64>,
    pub(crate) connection_wait: Histogram<u64>,
    /// From the intended time of an order to its end, of those that were followed.
    pub(crate) end_to_end: Histogram<u64>,
    pub(crate) series: Series,
    /// Latencies since the live view last looked.
    pub(crate) recent: Coarse,
    /// 410 answers by item.
    pub(crate) sold_out: Vec<u64>,
    /// One a phase of the plan.
    pub(crate) phases: Vec<PhaseNotes>,
    curve: Arc<Curve>,
    /// Answers that no order of the run should get.
    pub(crate) unexpected: u64,
    /// Sends beyond the plan: the same order again after trouble.
    pub(crate) retries: u64,
    /// Buyers who gave up because too many waited for their next try.
    pub(crate) retries_dropped: u64,
    pub(crate) sent: u64,
    pub(crate) last_sent_ns: u64,
    pub(crate) last_answer_ns: u64,
    pub(crate) reconnects: u64,
}

impl Record {
    /// Empty, for so many items, without phases.
    pub fn new(items: usize) -> Self {
        Self::with_phases(items, Arc::default(), 0)
    }

    /// Empty, with notes of each phase of a curve.
    pub(crate) fn with_phases(items: usize, curve: Arc<Curve>, phases: usize) -> Self {
        Self {
            phases: vec![PhaseNotes::default(); phases],
            curve,
            unexpected: 0,
            retries: 0,
            retries_dropped: 0,
            counts: [0; OUTCOMES],
            latencies: std::array::from_fn(|_| None),
            lateness: histogram(),
            connection_wait: histogram(),
            end_to_end: histogram(),
            series: Series::default(),
            recent: Coarse::default(),
            sold_out: vec![0; items],
            sent: 0,
            last_sent_ns: 0,
            last_answer_ns: 0,
            reconnects: 0,
        }
    }

    /// A request went out at `now_ns`.
    pub fn sent(&mut self, now_ns: u64, lateness_ns: u64, connection_wait_ns: u64) {
        self.sent += 1;
        self.last_sent_ns = now_ns;
        self.lateness.saturating_record(lateness_ns);
        self.connection_wait.saturating_record(connection_wait_ns);
    }

    /// A request ended.
    pub fn ended(&mut self, ended: &Ended) {
        let outcome = ended.outcome;
        let latency_ns = ended.at_ns.saturating_sub(ended.intended_ns);
        self.counts[outcome as usize] += 1;
        let latencies = self.latencies[outcome as usize].get_or_insert_with(|| Box::new(Latencies::new()));
        latencies.intended.saturating_record(latency_ns);
        if let Some(sent_ns) = ended.sent_ns {
            latencies.sent.saturating_record(ended.at_ns.saturating_sub(sent_ns));
        }
        self.series.record(ended.at_ns, outcome, latency_ns / 1_000);
        if !self.phases.is_empty()
            && let Some(phase) = self.phases.get_mut(self.curve.phase_at(ended.intended_ns))
        {
            phase.counts[outcome as usize] += 1;
            if outcome.is_answer() {
                phase.latency.record_us(latency_ns / 1_000);
            }
        }
        if outcome.is_answer() {
            self.recent.record_us(latency_ns / 1_000);
            self.last_answer_ns = ended.at_ns;
        }
    }

    /// Takes in the notes of another core.
    pub fn join(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (mine, theirs) in self.latencies.iter_mut().zip(other.latencies) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    join(&mut mine.intended, &theirs.intended);
                    join(&mut mine.sent, &theirs.sent);
                }
                (mine, theirs @ Some(_)) => *mine = theirs,
                (_, None) => {}
            }
        }
        join(&mut self.lateness, &other.lateness);
        join(&mut self.connection_wait, &other.connection_wait);
        join(&mut self.end_to_end, &other.end_to_end);
        self.series.join(other.series);
        for (count, more) in self.sold_out.iter_mut().zip(other.sold_out) {
            *count += more;
        }
        for (mine, theirs) in self.phases.iter_mut().zip(&other.phases) {
            for (count, more) in mine.counts.iter_mut().zip(theirs.counts) {
                *count += more;
            }
            mine.latency.join(&theirs.latency);
        }
        self.unexpected += other.unexpected;
        self.retries += other.retries;
        self.retries_dropped += other.retries_dropped;
        self.sent += other.sent;
        self.last_sent_ns = self.last_sent_ns.max(other.last_sent_ns);
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
        self.reconnects += other.reconnects;
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// Requests that got an HTTP answer.
    pub(crate) fn answered(&self) -> u64 {
        Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_answer())
            .map(|outcome| self.count(outcome))
            .sum()
    }
}

fn join(mine: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    mine.add(theirs).expect("both have the same bounds");
}

/// Quantiles of a histogram of nanoseconds.
pub(crate) fn quantiles_ms(histogram: &Histogram<u64>) -> Quantiles {
    if histogram.is_empty() {
        return Quantiles::default();
    }
    let ms = |quantile| quantile_ms(histogram, quantile);
    Quantiles {
        mean: round(histogram.mean() / 1e6),
        p50: ms(0.5),
        p90: ms(0.9),
        p99: ms(0.99),
        p999: ms(0.999),
        max: value_ms(histogram, histogram.max()),
    }
}

/// One quantile in milliseconds.
pub(crate) fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    // The crate answers with the end of a step, which may lie beyond the largest value; for quantile 0 with
    // the least value it can tell apart, not the least that was recorded.
    let ns = if quantile > 0.0 { histogram.value_at_quantile(quantile) } else { histogram.min() };
    value_ms(histogram, ns)
}

/// A value that the histogram gave, in milliseconds. Everything in its first step is 0, whose step it is: a
/// histogram that was written and read again no longer knows where in its step a value lay.
pub(crate) fn value_ms(histogram: &Histogram<u64>, ns: u64) -> f64 {
    let ns = ns.min(histogram.max());
    if histogram.equivalent(ns, 0) { 0.0 } else { round(ns as f64 / 1e6) }
}

/// To whole microseconds: the histogram knows no more.
fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
