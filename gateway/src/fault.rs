//! Faults inside a connection, for tests: a correlation id `fault-panic-<point>` panics at that point of its request, and
//! `fault-block-<point>-<ms>` blocks the event loop there for so long. Compiled in only with the feature `fault-points`,
//! which no release build has; else [`at`] is nothing.

/// Passes a point.
#[cfg(feature = "fault-points")]
pub(crate) fn at(point: &str, correlation_id: &str) {
    let Some(fault) = correlation_id.strip_prefix("fault-") else { return };
    match fault.split('-').collect::<Vec<_>>()[..] {
        ["panic", wanted] if wanted == point => panic!("a test asked for a panic at {point}"),
        ["block", wanted, ms] if wanted == point => {
            let ms = ms.parse().unwrap_or_default();
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
        _ => {}
    }
}

/// Passes a point.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn at(_: &str, _: &str) {}
