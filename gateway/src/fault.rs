//! Fault injection inside a connection, for tests: a request with the correlation id `fault-panic-<point>` panics at that
//! point, and `fault-block-<point>-<ms>` blocks the event loop there for that time. Compiled in only with the feature
//! `fault-points`, which no release build has; otherwise [`at`] does nothing.

/// Injects the fault that the correlation id requests for this point, if any.
#[cfg(feature = "fault-points")]
pub(crate) fn at(point: &str, correlation_id: &str) {
    let Some(fault) = correlation_id.strip_prefix("fault-") else { return };
    match fault.split('-').collect::<Vec<_>>()[..] {
        ["panic", wanted] if wanted == point => panic!("a test requested a panic at {point}"),
        ["block", wanted, ms] if wanted == point => {
            let ms = ms.parse().unwrap_or_default();
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
        _ => {}
    }
}

/// Does nothing without the feature.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn at(_: &str, _: &str) {}
