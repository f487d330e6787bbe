//! Durations of Prometheus 2: `5m`, `1h30m`, `250ms`.

/// Units in the order in which they may follow each other.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration as milliseconds; `None` when it is none, or does not fit.
pub(crate) fn duration_ms(text: &str) -> Option<i64> {
    let (mut rest, mut sum_ms) = (text, 0_i64);
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&digits| digits > 0)?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        rest = &rest[letters..];
        let (_, unit_ms) = units.by_ref().find(|(name, _)| *name == unit)?;
        sum_ms = sum_ms.checked_add(count.checked_mul(*unit_ms)?)?;
    }
    (!text.is_empty()).then_some(sum_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_prometheus() {
        for (text, ms) in [
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("30m1h", None),
            ("5", None),
            ("m", None),
            ("1.5h", None),
            ("", None),
            ("-1", None),
            (".inf", None),
            ("1e30", None),
            ("99999999999999999999s", None),
            ("9223372036854775807d", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
