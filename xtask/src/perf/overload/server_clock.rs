//! Latency of accepted orders measured by the gateway: `processing_time_ms` of its log lines. The histogram on its
//! metrics page also contains refused orders.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use crate::step::Result;

/// A log file, read from the end of the file at the time of opening.
pub(super) struct Log(BufReader<File>);

/// Number of accepted orders per millisecond of latency; the last bucket holds all longer ones.
pub(super) struct Times(Vec<u64>);

/// Largest latency with a separate bucket.
const MS_MAX: usize = 60_000;

impl Log {
    /// Opens the log at its current end.
    pub(super) fn open_at_end(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(BufReader::with_capacity(1 << 20, file)))
    }

    /// Reads the lines written since opening.
    pub(super) fn times(mut self) -> Result<Times> {
        let mut times = vec![0; MS_MAX + 1];
        let mut line = Vec::new();
        while self.0.read_until(b'\n', &mut line)? > 0 {
            if let Some(ms) = accepted_ms(&line) {
                times[ms.min(MS_MAX)] += 1;
            }
            line.clear();
        }
        Ok(Times(times))
    }
}

impl Times {
    /// The 99th percentile in whole milliseconds.
    pub(super) fn p99_ms(&self) -> usize {
        let all: u64 = self.0.iter().sum();
        let mut seen = 0;
        self.0
            .iter()
            .position(|count| {
                seen += count;
                seen * 100 >= all * 99
            })
            .unwrap_or(MS_MAX)
    }
}

fn accepted_ms(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.contains("\"event\":\"order_queued\""))?;
    let (_, rest) = line.split_once("\"processing_time_ms\":")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accepted_orders_are_counted() {
        let line = |event: &str, ms: u64| format!("{{\"event\":\"{event}\",\"processing_time_ms\":{ms}}}\n");
        assert_eq!(accepted_ms(line("order_queued", 12).as_bytes()), Some(12));
        assert_eq!(accepted_ms(line("order_shed", 12).as_bytes()), None);
    }

    #[test]
    fn p99_ignores_the_slowest_hundredth() {
        let mut times = vec![0; 10];
        (times[3], times[9]) = (99, 1);
        assert_eq!(Times(times).p99_ms(), 3);
    }
}
