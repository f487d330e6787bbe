//! Crash points between the stations of an order, for tests: the process ends at once, as by SIGKILL, when the point
//! named by `CRASH_AT=<point>:<n>` is passed for the nth time. Compiled in only with the feature `crash-points`,
//! which no release build has; else [`at`] is nothing.

/// Between which two stations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A batch was taken, nothing of it reserved.
    Taken,
    /// Units are held, nothing is paid.
    Reserved,
    /// The payment has answered, nothing is settled.
    Paid,
    /// The fences are decided, no status is written.
    Settled,
    /// The statuses are written, no dead letter is.
    Written,
    /// The dead letter is written, the record not finished.
    Buried,
    /// The records are finished, their offsets not committed.
    Finished,
}

impl Point {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Taken, Self::Reserved, Self::Paid, Self::Settled, Self::Written, Self::Buried, Self::Finished];

    /// As `CRASH_AT` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Reserved => "reserved",
            Self::Paid => "paid",
            Self::Settled => "settled",
            Self::Written => "written",
            Self::Buried => "buried",
            Self::Finished => "finished",
        }
    }
}

/// Passes a point.
#[cfg(feature = "crash-points")]
pub(crate) fn at(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("CRASH_AT").ok()?;
        let (name, number) = text.split_once(':')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    if let Some((name, number)) = wanted
        && name == point.name()
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *number
    {
        // No destructor, no flush: what a kill leaves.
        std::process::abort();
    }
}

/// Passes a point.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn at(_: Point) {}
