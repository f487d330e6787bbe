//! Measurements of one core's requests, and their sum over all cores.

use hdrhistogram::Histogram;

use crate::outcome::{OUTCOMES, Outcome};
use crate::quantiles::histogram;
use crate::series::{CoarseHistogram, Series};

/// Latencies of one outcome.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// From the intended time.
    pub intended: Histogram<u64>,
    /// From the actual send.
    pub sent: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { intended: histogram(), sent: histogram() }
    }
}

/// A finished request.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its outcome.
    pub outcome: Outcome,
    /// Time when it finished, in nanoseconds since the first arrival, like the next two.
    pub at_ns: u64,
    /// Intended time.
    pub intended_ns: u64,
    /// Time of the actual send; `None` if it was never sent.
    pub sent_ns: Option<u64>,
    /// Phase of the plan that contains `intended_ns`; `None` for a plan without phases.
    pub phase: Option<usize>,
}

/// Measurements of one phase, by intended time.
#[derive(Debug, Clone, Default)]
pub struct PhaseRecord {
    /// Requests by outcome.
    pub counts: [u64; OUTCOMES],
    /// Latency from the intended time, responses only.
    pub latency: CoarseHistogram,
}

/// Measurements of one core.
#[derive(Debug, Clone)]
pub struct Record {
    /// Requests by outcome.
    pub counts: [u64; OUTCOMES],
    /// By outcome; `None` until one occurs.
    pub latencies: [Option<Box<Latencies>>; OUTCOMES],
    /// The generator's own lateness, nanoseconds.
    pub lateness: Histogram<u64>,
    /// Waiting for a free connection, nanoseconds.
    pub connection_wait: Histogram<u64>,
    /// From the intended time of an order to its final status, of the followed orders.
    pub end_to_end: Histogram<u64>,
    /// Counts and latencies over time.
    pub series: Series,
    /// Latencies since the last update of the live view.
    pub recent: CoarseHistogram,
    /// 410 responses by item.
    pub sold_out: Vec<u64>,
    /// One entry per phase of the plan.
    pub phases: Vec<PhaseRecord>,
    /// Responses that are wrong for their order.
    pub unexpected: u64,
    /// Sends beyond the plan: retries of failed requests.
    pub retries: u64,
    /// Buyers who gave up because the retry queue was full.
    pub retries_dropped: u64,
    /// Requests sent.
    pub sent: u64,
    /// Time of the last send, since the first arrival.
    pub last_sent_ns: u64,
    /// Time of the last response, likewise.
    pub last_answer_ns: u64,
    /// Reconnects after lost connections.
    pub reconnects: u64,
}

impl Record {
    /// Empty, for this many items, without phases.
    pub fn new(items: usize) -> Self {
        Self::with_phases(items, 0)
    }

    /// Empty, for this many items and phases of the plan.
    pub fn with_phases(items: usize, phases: usize) -> Self {
        Self {
            phases: vec![PhaseRecord::default(); phases],
            unexpected: 0,
            retries: 0,
            retries_dropped: 0,
            counts: [0; OUTCOMES],
            latencies: std::array::from_fn(|_| None),
            lateness: histogram(),
            connection_wait: histogram(),
            end_to_end: histogram(),
            series: Series::default(),
            recent: CoarseHistogram::default(),
            sold_out: vec![0; items],
            sent: 0,
            last_sent_ns: 0,
            last_answer_ns: 0,
            reconnects: 0,
        }
    }

    /// A request was sent at `now_ns`.
    pub fn sent(&mut self, now_ns: u64, lateness_ns: u64, connection_wait_ns: u64) {
        self.sent += 1;
        self.last_sent_ns = now_ns;
        self.lateness.saturating_record(lateness_ns);
        self.connection_wait.saturating_record(connection_wait_ns);
    }

    /// A request finished.
    pub fn ended(&mut self, ended: &Ended) {
        let outcome = ended.outcome;
        let latency_ns = ended.at_ns.saturating_sub(ended.intended_ns);
        self.counts[outcome as usize] += 1;
        let latencies = self.latencies[outcome as usize].get_or_insert_default();
        latencies.intended.saturating_record(latency_ns);
        if let Some(sent_ns) = ended.sent_ns {
            latencies.sent.saturating_record(ended.at_ns.saturating_sub(sent_ns));
        }
        self.series.record(ended.at_ns, outcome, latency_ns / 1_000);
        if let Some(phase) = ended.phase.and_then(|index| self.phases.get_mut(index)) {
            phase.counts[outcome as usize] += 1;
            if outcome.is_response() {
                phase.latency.record_us(latency_ns / 1_000);
            }
        }
        if outcome.is_response() {
            self.recent.record_us(latency_ns / 1_000);
            self.last_answer_ns = ended.at_ns;
        }
    }

    /// Adds the measurements of another core.
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

    /// Requests with this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// Requests that got an HTTP response.
    pub fn answered(&self) -> u64 {
        Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_response())
            .map(|outcome| self.count(outcome))
            .sum()
    }
}

fn join(mine: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    mine.add(theirs).expect("both have the same bounds");
}
