//! Payments: the provider interface, retries, and a simulator.

use std::future::Future;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Result of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paid {
    /// Paid.
    Yes,
    /// Not paid, and will not be paid in this attempt.
    No,
}

/// Payment provider. `request_id`, `attempt` and `trial` form the idempotency key of a charge: a second call
/// with the same key must return the same result and charge once. A charge whose future is dropped must no
/// longer take money.
pub trait PaymentGateway {
    /// Charges one order; `trial` counts from 0 within one attempt at the order.
    fn charge(
        &self,
        request_id: &str,
        amount: u32,
        attempt: u32,
        trial: u32,
    ) -> impl Future<Output = Paid> + 'static;
}

/// Timeout and number of trials of a payment.
#[derive(Debug, Clone, Copy)]
pub struct ChargeLimits {
    /// A trial that takes longer counts as failed.
    pub timeout: Duration,
    /// Trials before the units are refunded, at least 1.
    pub trials_max: u32,
}

/// Pause before the second trial; doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Charges until a trial succeeds or the trials are used up. A permit is held during a charge, not during the
/// pauses. Returns `None` if the partition was revoked before a charge started; the order is then left to the
/// next owner.
pub async fn collect(
    gateway: &impl PaymentGateway,
    permits: &Semaphore,
    charge_limits: ChargeLimits,
    order: (&str, u32, u32),
    is_ours: impl Fn() -> bool,
) -> Option<Paid> {
    let (request_id, amount, attempt) = order;
    let mut pause = PAUSE_MIN;
    for trial in 0..charge_limits.trials_max {
        if trial > 0 {
            monoio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        // `acquire` fails only on a closed semaphore; this one is never closed.
        let _permit = permits.acquire().await;
        if !is_ours() {
            return None;
        }
        let charge = gateway.charge(request_id, amount, attempt, trial);
        if let Ok(Paid::Yes) = monoio::time::timeout(charge_limits.timeout, charge).await {
            return Some(Paid::Yes);
        }
    }
    Some(Paid::No)
}

/// Simulated payment provider. Its result is a function of seed, `request_id`, attempt and trial alone.
#[derive(Debug, Clone, Copy)]
pub struct Simulator {
    /// Share of trials that fail, 0 to 1.
    pub failure_rate: f64,
    /// Duration of a charge.
    pub latency: Duration,
    /// Share of attempts that take `slow_latency` instead, 0 to 1.
    pub slow_rate: f64,
    /// Duration of a slow charge.
    pub slow_latency: Duration,
    /// Random seed: selects which payments fail and which are slow.
    pub seed: u64,
}

impl Simulator {
    /// A simulator without latency.
    pub fn instant(failure_rate: f64, seed: u64) -> Self {
        Self { failure_rate, latency: Duration::ZERO, slow_rate: 0.0, slow_latency: Duration::ZERO, seed }
    }

    /// True when every charge returns at once.
    pub fn is_instant(&self) -> bool {
        self.latency.is_zero() && self.slow_rate <= 0.0
    }

    /// The result of the first trial of an attempt, without waiting.
    pub fn answer(&self, request_id: &str, attempt: u32) -> Paid {
        self.answer_to(request_id, attempt, 0)
    }

    fn answer_to(&self, request_id: &str, attempt: u32, trial: u32) -> Paid {
        // Attempt numbers are small, so the upper 16 bits are free for the trial.
        let share = self.share("payment", request_id, attempt.wrapping_add(trial << 16));
        if share < self.failure_rate { Paid::No } else { Paid::Yes }
    }

    /// Uniform in 0..1; a function of the seed and the arguments.
    fn share(&self, what: &str, request_id: &str, number: u32) -> f64 {
        let hash = wire::order::fingerprint(request_id, what, number)
            ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The finalizer of MurmurHash3: the seed must affect the top bits, from which the share is taken.
        let mut mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^= mixed >> 33;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl PaymentGateway for Simulator {
    fn charge(
        &self,
        request_id: &str,
        _amount: u32,
        attempt: u32,
        trial: u32,
    ) -> impl Future<Output = Paid> + 'static {
        let answer = self.answer_to(request_id, attempt, trial);
        let is_slow = self.slow_rate > 0.0 && self.share("slow", request_id, attempt) < self.slow_rate;
        let latency = if is_slow { self.slow_latency } else { self.latency };
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
    fn failure_share_matches_the_rate_and_results_are_stable() {
        for rate in [0.0, 0.1, 0.5, 1.0] {
            let simulator = Simulator::instant(rate, 7);
            let fails = |attempt| {
                (0..20_000).filter(|n| simulator.answer(&format!("r{n}"), attempt) == Paid::No).count()
            };
            let share = fails(0) as f64 / 20_000.0;
            assert!((share - rate).abs() < 0.015, "{share} for {rate}");
            assert_eq!(fails(0), fails(0));
        }
        let simulator = Simulator::instant(0.5, 7);
        let differ = (0..1000)
            .filter(|n| simulator.answer(&format!("r{n}"), 0) != simulator.answer(&format!("r{n}"), 1));
        assert!(differ.count() > 300, "results differ between attempts");
    }
}
