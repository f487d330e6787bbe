//! Reads the target's metrics pages over a blocking connection, never on a generator core.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Timeout of one page.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Maximum page size: some thousands of items, 100 bytes per line each.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The samples of a page, by series: `name` or `name{labels}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MetricsPage(BTreeMap<String, f64>);

impl MetricsPage {
    /// Reads `GET /metrics`.
    pub(crate) fn read(address: SocketAddr, host: &str) -> Result<Self, String> {
        Self::read_within(address, host, WAIT_MAX)
    }

    /// Reads `GET /metrics` with this timeout.
    pub(crate) fn read_within(address: SocketAddr, host: &str, wait_max: Duration) -> Result<Self, String> {
        let page = Self::fetch(address, host, Instant::now() + wait_max)
            .map_err(|error| format!("GET /metrics of {address}: {error}"))?;
        let (head, body) = page
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("GET /metrics of {address}: not an HTTP/1 response"))?;
        if head.split_ascii_whitespace().nth(1) != Some("200") {
            let line = head.lines().next().unwrap_or_default();
            return Err(format!("GET /metrics of {address}: {line}"));
        }
        Ok(Self::parse(body))
    }

    fn fetch(address: SocketAddr, host: &str, deadline: Instant) -> io::Result<String> {
        // A timeout of zero is invalid; the deadline itself is checked below.
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut stream = TcpStream::connect_timeout(&address, left())?;
        stream.set_write_timeout(Some(left()))?;
        // HTTP/1.0, so that the page ends with the connection and is never chunked.
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let (mut page, mut chunk) = (Vec::new(), [0; 16_384]);
        loop {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left()))?;
            let count = match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            };
            page.extend_from_slice(&chunk[..count]);
            if page.len() > PAGE_BYTES_MAX {
                return Err(io::Error::other(format!("the page is longer than {PAGE_BYTES_MAX} bytes")));
            }
        }
        String::from_utf8(page).map_err(io::Error::other)
    }

    /// Parses the text format, version 0.0.4. Other lines than samples are skipped.
    pub(crate) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            // The value follows the labels, which may hold blanks.
            let after_labels = line.rfind('}').map_or(0, |brace| brace + 1);
            let blank = after_labels + line[after_labels..].find(' ')?;
            let value = line[blank..].split_ascii_whitespace().next()?.parse().ok()?;
            Some((line[..blank].to_owned(), value))
        };
        Self(text.lines().filter_map(sample).collect())
    }

    /// All samples with their series.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(series, &value)| (series.as_str(), value))
    }

    /// The value of one series.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The sum of all series of a family; `None` if there is none.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        let series = self.series(name);
        let mut sum = None;
        for (_, value) in series {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
        sum
    }

    /// The largest of all series of a family.
    pub(crate) fn max(&self, name: &str) -> Option<f64> {
        self.series(name).map(|(_, value)| value).reduce(f64::max)
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.range(name.to_owned()..).take_while(move |(series, _)| series.starts_with(name)).filter_map(
            move |(series, &value)| {
                let labels = &series[name.len()..];
                (labels.is_empty() || labels.starts_with('{')).then_some((labels, value))
            },
        )
    }

    /// Increase of a counter since `before`. A counter that decreased was reset and counts from zero, as in
    /// Prometheus.
    pub(crate) fn rise(&self, before: &Self, name: &str) -> Option<f64> {
        let after = self.sum(name)?;
        let before = before.sum(name).unwrap_or(0.0);
        Some(if after >= before { after - before } else { after })
    }

    /// A quantile of what a histogram observed since `before`, interpolated in its bucket as in Prometheus;
    /// `None` if nothing was observed.
    pub(crate) fn quantile_of_rise(&self, before: &Self, name: &str, quantile: f64) -> Option<f64> {
        let family = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.series(&family) {
            let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            let earlier = before.0.get(&format!("{family}{labels}")).copied().unwrap_or(0.0);
            buckets.push((bound, if count >= earlier { count - earlier } else { count }));
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rank = buckets.last()?.1 * quantile;
        if rank <= 0.0 {
            return None;
        }
        let (mut lower_bound, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= rank {
                let inside = if count > below { (rank - below) / (count - below) } else { 1.0 };
                return Some(if bound.is_finite() {
                    lower_bound + (bound - lower_bound) * inside
                } else {
                    lower_bound
                });
            }
            (lower_bound, below) = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_with_and_without_labels() {
        let page = MetricsPage::parse(
            "# HELP a About.\n# TYPE a counter\na 3\nab 9\nlevel{item_id=\"1 }2\"} 4\nlevel{item_id=\"x\"} -1 1700000\n",
        );
        assert_eq!(page.sum("a"), Some(3.0));
        assert_eq!(page.sum("level"), Some(3.0));
        assert_eq!(page.max("level"), Some(4.0));
        assert_eq!(page.sum("missing"), None);
    }

    #[test]
    fn a_quantile_is_interpolated_in_its_bucket() {
        let before =
            MetricsPage::parse("d_bucket{le=\"1\"} 5\nd_bucket{le=\"2\"} 5\nd_bucket{le=\"+Inf\"} 5\n");
        let after =
            MetricsPage::parse("d_bucket{le=\"1\"} 55\nd_bucket{le=\"2\"} 105\nd_bucket{le=\"+Inf\"} 105\n");
        assert_eq!(after.quantile_of_rise(&before, "d", 0.75), Some(1.5));
        assert_eq!(before.quantile_of_rise(&before, "d", 0.75), None);
    }
}
