//! Crash points between the stages of an order, for tests: the process aborts, as with SIGKILL, when it
//! passes the point named by `CRASH_AT=<point>:<n>` for the nth time. Compiled in only with the feature
//! `crash-points`, which no release build has; without it `at` does nothing.

/// A point between two stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A batch was received, nothing is reserved.
    Taken,
    /// Units are held, nothing is paid.
    Reserved,
    /// The payment has returned, nothing is settled.
    Paid,
    /// The fences are decided, no status is written.
    Settled,
    /// The statuses are written, no dead letter is.
    Written,
    /// The dead letter is written, the record is not finished.
    Buried,
    /// The records are finished, their offsets are not committed.
    Finished,
}

impl Point {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Taken, Self::Reserved, Self::Paid, Self::Settled, Self::Written, Self::Buried, Self::Finished];

    /// Its name in `CRASH_AT`.
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

/// Marks that a point is passed.
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
        // No destructors and no flush, as with a kill.
        std::process::abort();
    }
}

/// Marks that a point is passed.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn at(_: Point) {}
