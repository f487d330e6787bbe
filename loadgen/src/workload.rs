//! The orders of the buyers and their HTTP requests.
//!
//! An order is a pure function of the seed and its number (`sequence`, from 0), so the audit knows the item
//! and amount of every request id without storing them. The request id is `<run>-<sequence in base 36>`, the
//! user id is `<run>-u<sequence in base 36>`. No two buyers share a user id, so only bots, which do, reach
//! the rate limit of a user.

use std::io::Write as _;

use audit::{Orders, Want};
use report::Shard;

use crate::curve::{Curve, Phase};
use crate::plan::Plan;
use crate::schedule::{Salt, mix, unit};

/// Kind of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKind {
    /// From a buyer who sends only this order.
    Buyer,
    /// From one of a few users who send far more orders than allowed.
    Bot(u64),
    /// Invalid, with this one of the invalid bodies.
    Invalid(u64),
}

/// Kind of the second send of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same bytes again.
    Same,
    /// The same id with another user: other contents, but the same units of the same item, so that the ledger
    /// does not depend on which of the two arrived first.
    Altered,
}

/// The orders of a run.
#[derive(Debug, Clone)]
pub struct Workload {
    run_id: String,
    host: String,
    item_ids: Vec<String>,
    buyers: u64,
    shard: Shard,
    seed: u64,
    hot_share: f64,
    duplicates_share: f64,
    reused_share: f64,
    invalid_share: f64,
    bots_share: f64,
    bots: u64,
    /// By item: cumulative share of the orders for it and the items before it; empty without Zipf.
    popularity: Vec<f64>,
    amount_max: u32,
}

impl Workload {
    /// The orders of this plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            run_id: plan.run_id.clone(),
            host: plan.host.clone(),
            item_ids: plan.items.iter().map(|item| item.id.clone()).collect(),
            buyers: plan.buyers,
            shard: plan.shard,
            seed: plan.seed,
            hot_share: plan.hot_share,
            duplicates_share: plan.duplicates_share,
            reused_share: plan.reused_share,
            invalid_share: plan.invalid_share,
            bots_share: plan.bots_share,
            bots: u64::from(plan.bots.max(1)),
            popularity: plan
                .zipf_exponent
                .map(|exponent| zipf(exponent, plan.items.len()))
                .unwrap_or_default(),
            amount_max: plan.amount_max,
        }
    }

    /// Number of orders in the plan.
    pub fn buyers(&self) -> u64 {
        self.buyers
    }

    /// The seed of the plan.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Item and amount of an order.
    pub fn want(&self, sequence: u64) -> Want {
        let cold = self.item_ids.len() as u64 - 1;
        let item = if !self.popularity.is_empty() {
            let at = unit(mix(self.seed, Salt::Item, sequence));
            (self.popularity.partition_point(|&share| share <= at) as u64).min(cold)
        } else if cold == 0 || unit(mix(self.seed, Salt::Hot, sequence)) < self.hot_share {
            0
        } else {
            1 + mix(self.seed, Salt::Item, sequence) % cold
        };
        let amount = if self.amount_max == 1 {
            1
        } else {
            1 + (mix(self.seed, Salt::Amount, sequence) % u64::from(self.amount_max)) as u32
        };
        Want { item: item as usize, amount }
    }

    /// Kind of an order.
    pub fn kind(&self, sequence: u64) -> OrderKind {
        if self.invalid_share + self.bots_share <= 0.0 {
            return OrderKind::Buyer;
        }
        let at = unit(mix(self.seed, Salt::OrderKind, sequence));
        if at < self.invalid_share {
            OrderKind::Invalid(mix(self.seed, Salt::InvalidBody, sequence) % INVALID_BODIES)
        } else if at < self.invalid_share + self.bots_share {
            OrderKind::Bot(mix(self.seed, Salt::Bot, sequence) % self.bots)
        } else {
            OrderKind::Buyer
        }
    }

    /// Kind of the second send of an order, if there is one.
    pub fn repeat(&self, sequence: u64) -> Option<Repeat> {
        if self.duplicates_share + self.reused_share <= 0.0 {
            return None;
        }
        let at = unit(mix(self.seed, Salt::Repeat, sequence));
        if at < self.duplicates_share {
            Some(Repeat::Same)
        } else if at < self.duplicates_share + self.reused_share {
            Some(Repeat::Altered)
        } else {
            None
        }
    }

    /// Number of requests of this shard, with repeats and without retries. Costs 2 ns per order if there are
    /// repeats.
    pub fn requests(&self) -> u64 {
        let own = self.shard.own(self.buyers);
        if self.duplicates_share + self.reused_share <= 0.0 {
            return own;
        }
        let is_repeated = |&sequence: &u64| self.shard.has(sequence) && self.repeat(sequence).is_some();
        own + (0..self.buyers).filter(is_repeated).count() as u64
    }

    /// Number of orders that result in this many requests, including repeats, over all shards.
    pub fn buyers_for(&self, requests: u64) -> u64 {
        if self.duplicates_share + self.reused_share <= 0.0 {
            return requests;
        }
        let (mut buyers, mut sends) = (0, 0);
        while sends < requests {
            sends += 1 + u64::from(self.repeat(buyers).is_some());
            buyers += 1;
        }
        // The repeat of the last order may be beyond the limit.
        if sends > requests { buyers - 1 } else { buyers }
    }

    /// Appends the request id of an order to `out`.
    pub fn request_id_into(&self, out: &mut Vec<u8>, sequence: u64) {
        out.extend_from_slice(self.run_id.as_bytes());
        out.push(b'-');
        base36_into(out, sequence);
    }

    /// The request id of an order.
    pub fn request_id(&self, sequence: u64) -> String {
        let mut id = Vec::with_capacity(self.run_id.len() + 8);
        self.request_id_into(&mut id, sequence);
        String::from_utf8_lossy(&id).into_owned()
    }

    /// Replaces the contents of `out` with the whole HTTP request of an order. `scratch` only saves an
    /// allocation.
    pub fn request_into(&self, out: &mut Vec<u8>, scratch: &mut Vec<u8>, sequence: u64, is_altered: bool) {
        scratch.clear();
        match self.kind(sequence) {
            OrderKind::Invalid(wrong) => self.invalid_body_into(scratch, sequence, wrong),
            kind => self.body_into(scratch, sequence, kind, is_altered),
        }
        out.clear();
        out.extend_from_slice(b"POST /buy HTTP/1.1\r\nHost: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
        decimal_into(out, scratch.len());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(scratch);
    }

    fn body_into(&self, out: &mut Vec<u8>, sequence: u64, kind: OrderKind, is_altered: bool) {
        let want = self.want(sequence);
        out.extend_from_slice(b"{\"user_id\":\"");
        out.extend_from_slice(self.run_id.as_bytes());
        match kind {
            OrderKind::Bot(bot) => {
                out.extend_from_slice(b"-bot");
                base36_into(out, bot);
            }
            OrderKind::Buyer | OrderKind::Invalid(_) => {
                out.extend_from_slice(b"-u");
                base36_into(out, sequence);
            }
        }
        if is_altered {
            out.extend_from_slice(b"-other");
        }
        out.extend_from_slice(b"\",\"item_id\":\"");
        out.extend_from_slice(self.item_ids[want.item].as_bytes());
        out.extend_from_slice(b"\",\"amount\":");
        decimal_into(out, want.amount as usize);
        out.extend_from_slice(b",\"request_id\":\"");
        self.request_id_into(out, sequence);
        out.extend_from_slice(b"\"}");
    }

    /// A body that violates one rule of the contract; it has the order's own id, so that the audit can look
    /// it up.
    fn invalid_body_into(&self, out: &mut Vec<u8>, sequence: u64, wrong: u64) {
        let id = self.request_id(sequence);
        let text = match wrong {
            0 => format!(r#"{{"user_id":"u","item_id":"i","amount":0,"request_id":"{id}"}}"#),
            1 => format!(r#"{{"user_id":"u","item_id":"i","amount":"1","request_id":"{id}"}}"#),
            2 => format!(r#"{{"user_id":"u","item_id":"i","amount":1.0,"request_id":"{id}"}}"#),
            3 => format!(r#"{{"user_id":"u v","item_id":"i","amount":1,"request_id":"{id}"}}"#),
            4 => format!(r#"{{"user_id":"u","amount":1,"request_id":"{id}"}}"#),
            5 => format!(r#"{{"user_id":"u","item_id":"i","amount":1,"amount":1,"request_id":"{id}"}}"#),
            6 => format!(r#"["{id}"]"#),
            _ => format!(r#"{{"user_id":"u","item_id":"i","amount":1,"request_id":"{id}""#),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// Number of different invalid bodies.
const INVALID_BODIES: u64 = 8;

/// Cumulative shares of items where the n-th gets 1/n^s as many orders as the first.
fn zipf(exponent: f64, items: usize) -> Vec<f64> {
    let weights: Vec<f64> = (1..=items).map(|rank| (rank as f64).powf(-exponent)).collect();
    let all: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let cumulate = |weight: &f64| {
        sum += weight / all;
        sum
    };
    weights.iter().map(cumulate).collect()
}

fn base36_into(out: &mut Vec<u8>, number: u64) {
    // 13 digits hold any u64.
    let mut digits = [0_u8; 13];
    let mut from = digits.len();
    let mut rest = number;
    loop {
        from -= 1;
        digits[from] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

fn decimal_into(out: &mut Vec<u8>, number: usize) {
    // Writing to a vector cannot fail.
    drop(write!(out, "{number}"));
}

impl Orders for Workload {
    fn request_id(&self, sequence: u64) -> String {
        Self::request_id(self, sequence)
    }

    fn want(&self, sequence: u64) -> Want {
        Self::want(self, sequence)
    }
}

impl Plan {
    /// Sets the phases: `rate_per_s` becomes their mean (rounded), and `buyers` the number of orders that fit
    /// together with their repeats.
    pub fn set_phases(&mut self, phases: Vec<Phase>) {
        let curve = Curve::new(&phases);
        let seconds = curve.duration().as_secs_f64();
        self.phases = phases;
        self.rate_per_s = if seconds > 0.0 { (curve.arrivals() as f64 / seconds).round() as u64 } else { 0 };
        self.buyers = Workload::new(self).buyers_for(curve.arrivals());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::order;

    #[test]
    fn a_request_has_the_form_of_the_contract() {
        let mut plan = Plan::new(([127, 0, 0, 1], 8080).into());
        plan.run_id = "r1".to_owned();
        let workload = Workload::new(&plan);
        let (mut request, mut scratch) = (Vec::new(), Vec::new());
        workload.request_into(&mut request, &mut scratch, 36, false);
        assert_eq!(
            String::from_utf8(request).expect("ASCII"),
            "POST /buy HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 68\r\n\r\n\
             {\"user_id\":\"r1-u10\",\"item_id\":\"101\",\"amount\":1,\"request_id\":\"r1-10\"}"
        );
        assert_eq!(order::check_request_id(&workload.request_id(u64::MAX)), Ok(()));
    }

    #[test]
    fn zipf_gives_the_second_item_half_the_orders_of_the_first() {
        let mut plan = Plan::new(([127, 0, 0, 1], 8080).into());
        plan.items = (0..4).map(|item| audit::Item { id: format!("i{item}"), stock: 1 }).collect();
        plan.zipf_exponent = Some(1.0);
        let workload = Workload::new(&plan);
        let mut counts = [0_u32; 4];
        (0..100_000).for_each(|sequence| counts[workload.want(sequence).item] += 1);
        for (rank, count) in counts.iter().enumerate() {
            // 1 + 1/2 + 1/3 + 1/4 = 25/12
            let expected = 100_000.0 * 12.0 / 25.0 / (rank + 1) as f64;
            assert!((f64::from(*count) - expected).abs() < 1_000.0, "{counts:?}");
        }
    }

    #[test]
    fn base36_is_unique_and_short() {
        for (number, text) in [(0, "0"), (35, "z"), (36, "10"), (u64::MAX, "3w5e11264sgsf")] {
            let mut out = Vec::new();
            base36_into(&mut out, number);
            assert_eq!(out, text.as_bytes());
        }
    }
}
