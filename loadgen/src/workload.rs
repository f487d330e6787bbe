//! What each buyer asks for, and the bytes of it.
//!
//! An order is a pure function of the seed and its number (`sequence`, from 0), so the audit knows item and
//! amount of every request id without anything having been stored. The request id is `<run>-<sequence in base
//! 36>`, the user `<run>-u<sequence in base 36>`: no two orders share a user, so the rate limit of a user is
//! never met.
//!
//! A repeat is the same body sent again: half of them in the very next slot (a double click, which meets the
//! first while it is still on the road), half about 100 ms of arrivals later.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;

use crate::part::Shard;
use crate::plan::Plan;
use crate::schedule::{Salt, Schedule, mix, unit};

/// What one order wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Index into the items of the plan.
    pub item: usize,
    /// Units.
    pub amount: u32,
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
    amount_max: u32,
}

impl Workload {
    /// As the plan says.
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
            amount_max: plan.amount_max,
        }
    }

    /// Item and units of an order.
    pub fn want(&self, sequence: u64) -> Want {
        let cold = self.item_ids.len() as u64 - 1;
        let item = if cold == 0 || unit(mix(self.seed, Salt::Hot, sequence)) < self.hot_share {
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

    /// Whether an order is sent a second time.
    pub fn is_repeated(&self, sequence: u64) -> bool {
        self.duplicates_share > 0.0 && unit(mix(self.seed, Salt::Repeat, sequence)) < self.duplicates_share
    }

    /// Requests of this shard in all, repeats included. Costs 2 ns an order when there are repeats.
    pub fn requests(&self) -> u64 {
        let own = self.shard.own(self.buyers);
        if self.duplicates_share <= 0.0 {
            return own;
        }
        let is_repeated = |&sequence: &u64| self.shard.has(sequence) && self.is_repeated(sequence);
        own + (0..self.buyers).filter(is_repeated).count() as u64
    }

    /// The request id of an order, appended.
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

    /// The whole request of an order, replacing what `out` held. `scratch` only saves an allocation.
    pub fn request_into(&self, out: &mut Vec<u8>, scratch: &mut Vec<u8>, sequence: u64) {
        let want = self.want(sequence);
        scratch.clear();
        scratch.extend_from_slice(b"{\"user_id\":\"");
        scratch.extend_from_slice(self.run_id.as_bytes());
        scratch.extend_from_slice(b"-u");
        base36_into(scratch, sequence);
        scratch.extend_from_slice(b"\",\"item_id\":\"");
        scratch.extend_from_slice(self.item_ids[want.item].as_bytes());
        scratch.extend_from_slice(b"\",\"amount\":");
        decimal_into(scratch, want.amount as usize);
        scratch.extend_from_slice(b",\"request_id\":\"");
        self.request_id_into(scratch, sequence);
        scratch.extend_from_slice(b"\"}");

        out.clear();
        out.extend_from_slice(b"POST /buy HTTP/1.1\r\nHost: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
        decimal_into(out, scratch.len());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(scratch);
    }
}

/// One request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// When it is due, nanoseconds from the start of the run.
    pub at_ns: u64,
    /// Which order.
    pub sequence: u64,
    /// True for the second time.
    pub is_repeat: bool,
}

/// All requests of a run in the order of their arrival.
///
/// Memory: the late repeats of the last 100 ms, at most [`LATE_SLOTS_MAX`] of them, 16 bytes each.
#[derive(Debug, Clone)]
pub struct Sends {
    workload: Arc<Workload>,
    schedule: Schedule,
    slot: u64,
    next_sequence: u64,
    late_slots: u64,
    /// The order to repeat in this slot.
    at_once: Option<u64>,
    /// Slot from which an order may be repeated, ascending.
    late: VecDeque<(u64, u64)>,
}

/// Longest distance of a late repeat, in slots.
const LATE_SLOTS_MAX: u64 = 65_536;

impl Sends {
    /// From the first one on.
    pub fn new(plan: &Plan, workload: Arc<Workload>) -> Self {
        Self {
            workload,
            schedule: Schedule::new(plan.arrivals, plan.rate_per_s, plan.seed),
            slot: 0,
            next_sequence: 0,
            late_slots: (plan.rate_per_s / 10).clamp(16, LATE_SLOTS_MAX),
            at_once: None,
            late: VecDeque::new(),
        }
    }

    fn next_order(&mut self) -> Option<(u64, bool)> {
        if let Some(sequence) = self.at_once.take() {
            return Some((sequence, true));
        }
        let fresh_are_left = self.next_sequence < self.workload.buyers;
        // When no order is left, the last repeats do not wait for slots that will not come.
        if self.late.front().is_some_and(|&(from_slot, _)| from_slot <= self.slot || !fresh_are_left) {
            return self.late.pop_front().map(|(_, sequence)| (sequence, true));
        }
        if !fresh_are_left {
            return None;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if self.workload.is_repeated(sequence) {
            if mix(self.workload.seed, Salt::RepeatKind, sequence) & 1 == 0 {
                self.at_once = Some(sequence);
            } else {
                self.late.push_back((self.slot + self.late_slots, sequence));
            }
        }
        Some((sequence, false))
    }
}

impl Iterator for Sends {
    type Item = Send;

    fn next(&mut self) -> Option<Send> {
        let (sequence, is_repeat) = self.next_order()?;
        self.slot += 1;
        let at_ns = self.schedule.next()?;
        Some(Send { at_ns, sequence, is_repeat })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use wire::order;

    #[test]
    fn a_request_is_what_the_contract_wants() {
        let mut plan = Plan::new(([127, 0, 0, 1], 8080).into());
        plan.run_id = "r1".to_owned();
        let workload = Workload::new(&plan);
        let (mut request, mut scratch) = (Vec::new(), Vec::new());
        workload.request_into(&mut request, &mut scratch, 36);
        assert_eq!(
            String::from_utf8(request).expect("ASCII"),
            "POST /buy HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 68\r\n\r\n\
             {\"user_id\":\"r1-u10\",\"item_id\":\"101\",\"amount\":1,\"request_id\":\"r1-10\"}"
        );
        assert_eq!(order::check_request_id(&workload.request_id(u64::MAX)), Ok(()));
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
