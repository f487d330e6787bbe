//! The measurements in a form that can be merged without loss: complete histograms, exact counts, and a
//! series with the latencies of each bucket. This is the field `merge` of the report.
//!
//! Histograms are `HdrHistogram` V2 with deflate, in base64, which the tools of that project can read. A
//! bucket is a string, `202:12 409:1;80:5 81:8`: counts by outcome, then latencies by slot of
//! `CoarseHistogram`.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::quantiles::histogram;
use crate::record::Record;
use crate::series::{Bucket, Series};

/// Suffix of the histogram of an outcome from the intended time.
pub const INTENDED: &str = "intended";
/// Suffix of the histogram of an outcome from the actual send.
pub const SENT: &str = "sent";

/// All measurements that can be merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Time of the first arrival, in milliseconds since 1970.
    pub start_unix_ms: u64,
    /// Requests sent.
    pub sent: u64,
    /// Time of the last send, in nanoseconds since the first arrival.
    pub last_sent_ns: u64,
    /// Time of the last response, likewise.
    pub last_answer_ns: u64,
    /// Reconnects.
    pub reconnects: u64,
    /// 410 responses by item of the plan.
    pub sold_out: Vec<u64>,
    /// Finished requests by outcome.
    pub counts: BTreeMap<String, u64>,
    /// Nanoseconds; by name: `<outcome>/intended`, `<outcome>/sent`, `lateness`, `connection_wait`,
    /// `end_to_end`.
    pub histograms: BTreeMap<String, String>,
    /// Width of a bucket, in milliseconds.
    pub width_ms: u64,
    /// Buckets, starting at the first arrival.
    pub buckets: Vec<String>,
}

impl Measured {
    /// From the record of a run whose first arrival was at `start_unix_ms`.
    pub fn of(record: &Record, start_unix_ms: u64) -> Self {
        let counts =
            Outcome::ALL.into_iter().map(|outcome| (outcome.name().to_owned(), record.count(outcome)));
        Self {
            start_unix_ms,
            sent: record.sent,
            last_sent_ns: record.last_sent_ns,
            last_answer_ns: record.last_answer_ns,
            reconnects: record.reconnects,
            sold_out: record.sold_out.clone(),
            counts: counts.filter(|&(_, count)| count > 0).collect(),
            histograms: named(record).map(|(name, histogram)| (name, encode(histogram))).collect(),
            width_ms: record.series.width_ms(),
            buckets: record.series.buckets().iter().map(bucket_text).collect(),
        }
    }

    /// Restores the record.
    ///
    /// # Errors
    /// If a field is not as this program writes it; names the field.
    pub fn record(&self) -> Result<Record, String> {
        let mut record = Record::new(self.sold_out.len());
        record.sent = self.sent;
        record.last_sent_ns = self.last_sent_ns;
        record.last_answer_ns = self.last_answer_ns;
        record.reconnects = self.reconnects;
        record.sold_out.clone_from(&self.sold_out);
        for (name, &count) in &self.counts {
            record.counts[outcome(name)? as usize] = count;
        }
        for (name, text) in &self.histograms {
            let read = decode(text).map_err(|reason| format!("merge.histograms.{name}: {reason}"))?;
            *place(&mut record, name)? = read;
        }
        let buckets = self.buckets.iter().enumerate().map(|(index, text)| {
            bucket_of(text).ok_or_else(|| format!("merge.buckets[{index}] is {text:?}"))
        });
        let buckets = buckets.collect::<Result<Vec<Bucket>, String>>()?;
        record.series = Series::from_buckets(self.width_ms, buckets)
            .ok_or_else(|| format!("merge.width_ms is {}", self.width_ms))?;
        Ok(record)
    }

    /// The histogram with this name; `None` if nothing was recorded in it.
    ///
    /// # Errors
    /// If it is not as this program writes it.
    pub fn histogram(&self, name: &str) -> Result<Option<Histogram<u64>>, String> {
        let read =
            |text: &String| decode(text).map_err(|reason| format!("merge.histograms.{name}: {reason}"));
        self.histograms.get(name).map(read).transpose()
    }

    /// Merges the parts of one run. Each part is shifted to the earliest start: times exactly, buckets by
    /// whole bucket widths.
    ///
    /// # Errors
    /// If a part is not as this program writes it, or there are no parts.
    pub fn joined(parts: &[&Self]) -> Result<Self, String> {
        let start_unix_ms =
            parts.iter().map(|part| part.start_unix_ms).min().ok_or("there is nothing to merge")?;
        let items = parts.iter().map(|part| part.sold_out.len()).max().unwrap_or(0);
        let mut whole = Record::new(items);
        for part in parts {
            let mut record = part.record()?;
            let delay_ms = part.start_unix_ms - start_unix_ms;
            record.series.delay(delay_ms);
            // Without any send or response there is no last time to shift.
            if record.sent > 0 {
                record.last_sent_ns += delay_ms * 1_000_000;
            }
            if record.answered() > 0 {
                record.last_answer_ns += delay_ms * 1_000_000;
            }
            whole.join(record);
        }
        Ok(Self::of(&whole, start_unix_ms))
    }
}

/// All non-empty histograms of the record, with their names. Add a new one here and in [`place`].
fn named(record: &Record) -> impl Iterator<Item = (String, &Histogram<u64>)> {
    let of_outcome = |outcome: Outcome| {
        let latencies = record.latencies[outcome as usize].as_deref();
        latencies.into_iter().flat_map(move |latencies| {
            [(INTENDED, &latencies.intended), (SENT, &latencies.sent)]
                .map(|(kind, histogram)| (format!("{outcome}/{kind}"), histogram))
        })
    };
    let own = [
        ("lateness", &record.lateness),
        ("connection_wait", &record.connection_wait),
        ("end_to_end", &record.end_to_end),
    ];
    Outcome::ALL
        .into_iter()
        .flat_map(of_outcome)
        .chain(own.map(|(name, histogram)| (name.to_owned(), histogram)))
        .filter(|(_, histogram)| !histogram.is_empty())
}

/// The histogram of the record that has this name.
fn place<'a>(record: &'a mut Record, name: &str) -> Result<&'a mut Histogram<u64>, String> {
    match name {
        "lateness" => return Ok(&mut record.lateness),
        "connection_wait" => return Ok(&mut record.connection_wait),
        "end_to_end" => return Ok(&mut record.end_to_end),
        _ => {}
    }
    let unknown = || format!("merge.histograms.{name} is unknown to this program");
    let (of, kind) = name.split_once('/').ok_or_else(unknown)?;
    let latencies = record.latencies[outcome(of)? as usize].get_or_insert_default();
    match kind {
        INTENDED => Ok(&mut latencies.intended),
        SENT => Ok(&mut latencies.sent),
        _ => Err(unknown()),
    }
}

fn outcome(name: &str) -> Result<Outcome, String> {
    Outcome::of_name(name).ok_or_else(|| format!("{name:?} is not an outcome"))
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("writing to a vector cannot fail");
    STANDARD.encode(bytes)
}

fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let read: Histogram<u64> =
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| error.to_string())?;
    let ours = histogram();
    if (read.low(), read.high(), read.sigfig()) != (ours.low(), ours.high(), ours.sigfig()) {
        return Err(format!("its bounds are {} to {}, {} digits", read.low(), read.high(), read.sigfig()));
    }
    Ok(read)
}

fn bucket_text(bucket: &Bucket) -> String {
    let counts = Outcome::ALL.into_iter().map(|outcome| (outcome, bucket.outcomes[outcome as usize]));
    let mut text = pairs(counts.filter(|&(_, count)| count > 0));
    text.push(';');
    text.push_str(&pairs(bucket.latency.counted()));
    text
}

fn pairs(pairs: impl Iterator<Item = (impl Display, impl Display)>) -> String {
    let mut text = String::new();
    for (name, count) in pairs {
        let blank = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{blank}{name}:{count}");
    }
    text
}

fn bucket_of(text: &str) -> Option<Bucket> {
    let (outcomes, latencies) = text.split_once(';')?;
    let mut bucket = Bucket::default();
    for pair in outcomes.split_ascii_whitespace() {
        let (name, count) = pair.split_once(':')?;
        bucket.outcomes[Outcome::of_name(name)? as usize] = count.parse().ok()?;
    }
    for pair in latencies.split_ascii_whitespace() {
        let (slot, count) = pair.split_once(':')?;
        if !bucket.latency.add(slot.parse().ok()?, count.parse().ok()?) {
            return None;
        }
    }
    Some(bucket)
}
