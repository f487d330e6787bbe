//! Money: who is asked.

use std::future::Future;
use std::time::Duration;

/// What a payment came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paid {
    /// The money is there.
    Yes,
    /// It is not, and will not come for this attempt.
    No,
}

/// Who is asked for money. `request_id` and `attempt` are the idempotency key of a payment: asked twice, it must
/// answer alike and charge once.
pub trait PaymentGateway {
    /// Charges one order.
    fn charge(&self, request_id: &str, amount: u32, attempt: u32) -> impl Future<Output = Paid> + 'static;
}

/// A payment provider for rehearsals: its answer is a function of seed, `request_id` and attempt alone.
#[derive(Debug, Clone, Copy)]
pub struct Simulator {
    /// Share that fails, 0 to 1.
    pub failure_rate: f64,
    /// How long it takes.
    pub latency: Duration,
    /// Another seed, other failures.
    pub seed: u64,
}

impl Simulator {
    /// The answer, without the wait.
    pub fn answer(&self, request_id: &str, attempt: u32) -> Paid {
        let hash = wire::order::fingerprint(request_id, "payment", attempt)
            ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The finishing steps of MurmurHash3: seed bits must reach the top, from which the share is read.
        let mut mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^= mixed >> 33;
        let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        if share < self.failure_rate { Paid::No } else { Paid::Yes }
    }
}

impl PaymentGateway for Simulator {
    fn charge(&self, request_id: &str, _amount: u32, attempt: u32) -> impl Future<Output = Paid> + 'static {
        let (answer, latency) = (self.answer(request_id, attempt), self.latency);
        async move {
            if !latency.is_zero() {
                monoio::time::sleep(latency).await;
            }
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_fails_is_the_one_asked_for_and_the_answer_is_stable() {
        for rate in [0.0, 0.1, 0.5, 1.0] {
            let simulator = Simulator { failure_rate: rate, latency: Duration::ZERO, seed: 7 };
            let fails = |attempt| {
                (0..20_000).filter(|n| simulator.answer(&format!("r{n}"), attempt) == Paid::No).count()
            };
            let share = fails(0) as f64 / 20_000.0;
            assert!((share - rate).abs() < 0.015, "{share} for {rate}");
            assert_eq!(fails(0), fails(0));
        }
        let simulator = Simulator { failure_rate: 0.5, latency: Duration::ZERO, seed: 7 };
        let differ = (0..1000)
            .filter(|n| simulator.answer(&format!("r{n}"), 0) != simulator.answer(&format!("r{n}"), 1));
        assert!(differ.count() > 300, "another attempt has another chance");
    }
}
