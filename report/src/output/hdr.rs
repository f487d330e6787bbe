use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::measured::{INTENDED, SENT};
use crate::outcome::Outcome;
use crate::report::Report;

/// Two intervals per outcome, over the whole run: from the intended time with the tag `202`, from the actual
/// send with `202-from-send`. Values are nanoseconds; the column of the maximum is in milliseconds, as Java
/// writes it.
pub(super) fn log(report: &Report) -> Result<Vec<u8>, String> {
    let mut log = Vec::new();
    let start = UNIX_EPOCH + Duration::from_millis(report.merge.start_unix_ms);
    let length = Duration::from_nanos(report.merge.last_answer_ns);
    let mut serializer = V2DeflateSerializer::new();
    let mut head = IntervalLogWriterBuilder::new();
    head.add_comment(&format!("[Sale {}, latencies by outcome, nanoseconds]", report.run))
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(1e6);
    let mut writer = head.begin_log_with(&mut log, &mut serializer).map_err(|error| error.to_string())?;
    for outcome in Outcome::ALL {
        for (kind, tag) in [(INTENDED, outcome.name().to_owned()), (SENT, format!("{outcome}-from-send"))] {
            let Some(histogram) = report.merge.histogram(&format!("{outcome}/{kind}"))? else { continue };
            writer
                .write_histogram(&histogram, Duration::ZERO, length, Tag::new(&tag))
                .map_err(|error| format!("{error:?}"))?;
        }
    }
    Ok(log)
}
