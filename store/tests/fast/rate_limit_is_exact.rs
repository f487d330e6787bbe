//! Property: no trailing window has more admissions than the limit, no order is rejected while there is room,
//! and the returned waiting time is exact.
//! Method: random limits, windows and arrivals in the model, compared with a plain log of every admission.
//! `model_equals_redis.rs` shows that Redis gives the same answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use store::memory::Memory;
use store::{Admission, Answer, Command, Policy};

use crate::harness;

proptest! {
    #[test]
    fn admissions_match_a_plain_log(
        limit in 1_u32..6,
        window_ms in 1_u64..40,
        gaps_ms in prop::collection::vec(prop_oneof![3 => 0_u64..4, 1 => 0_u64..50], 1..200),
    ) {
        let policy =
            Policy { rate_limit_max_requests: limit, rate_limit_window_ms: window_ms, ..harness::policy() };
        // The store's clock advances too, so that logs expire in between.
        let clock = Arc::new(AtomicU64::new(harness::NOON_MS));
        let reading = Arc::clone(&clock);
        let model = Memory::with_clock(policy, 10_000, move || reading.load(Ordering::Relaxed));
        let mut log: Vec<u64> = Vec::new();
        for (number, gap_ms) in gaps_ms.into_iter().enumerate() {
            let now_ms = clock.fetch_add(gap_ms, Ordering::Relaxed) + gap_ms;
            let id = format!("r{number}");
            let answer = model.apply(&Command::Admit(harness::admit("u", &id, number as u64)));
            let in_window_at =
                |at_ms: u64| log.iter().filter(|&&past_ms| past_ms + window_ms > at_ms).count();
            match answer {
                Ok(Answer::Admitted(Admission::Fresh)) => {
                    prop_assert!(in_window_at(now_ms) < limit as usize, "one too many at {}", now_ms);
                    log.push(now_ms);
                }
                Ok(Answer::Admitted(Admission::Limited { retry_after_ms })) => {
                    prop_assert!(in_window_at(now_ms) >= limit as usize, "limited although there is room at {}", now_ms);
                    let free_ms = now_ms + retry_after_ms;
                    prop_assert!(retry_after_ms >= 1);
                    prop_assert!(in_window_at(free_ms) < limit as usize, "still full after the wait");
                    prop_assert!(in_window_at(free_ms - 1) >= limit as usize, "the wait is too long");
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        // Check again independently: every window that ends at an admission.
        for &end_ms in &log {
            let inside = log.iter().filter(|&&at_ms| at_ms <= end_ms && at_ms + window_ms > end_ms).count();
            prop_assert!(inside <= limit as usize);
        }
    }
}
