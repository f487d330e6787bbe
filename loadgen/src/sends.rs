//! All requests of a run in the order of their arrival: every order once, and some a second time.
//!
//! Half of the repeats come in the very next slot (a double click, while the first send is still in flight),
//! the other half about 100 ms of arrivals later.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::plan::Plan;
use crate::schedule::{Salt, Schedule, mix};
use crate::workload::{Repeat, Workload};

/// One request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Intended time, in nanoseconds from the start of the run.
    pub at_ns: u64,
    /// Number of the order.
    pub sequence: u64,
    /// First send or repeat.
    pub kind: SendKind,
}

/// Whether a send of an order is the first or a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendKind {
    /// The first send.
    First,
    /// The second send.
    Repeat(Repeat),
}

/// All requests of a run in the order of their arrival.
///
/// Memory: the late repeats of the last 100 ms, at most `LATE_SLOTS_MAX` of them, 16 bytes each.
#[derive(Debug, Clone)]
pub struct Sends {
    workload: Arc<Workload>,
    schedule: Schedule,
    slot: u64,
    next_sequence: u64,
    late_slots: u64,
    /// The order to repeat in the next slot.
    at_once: Option<(u64, Repeat)>,
    /// Late repeats: earliest slot, order and kind; ascending.
    late: VecDeque<(u64, u64, Repeat)>,
}

/// Maximum delay of a late repeat, in slots.
const LATE_SLOTS_MAX: u64 = 65_536;

impl Sends {
    /// Starts at the first request.
    pub fn new(plan: &Plan, workload: Arc<Workload>) -> Self {
        Self {
            workload,
            schedule: Schedule::of(plan),
            slot: 0,
            next_sequence: 0,
            late_slots: (plan.rate_per_s / 10).clamp(16, LATE_SLOTS_MAX),
            at_once: None,
            late: VecDeque::new(),
        }
    }

    fn next_order(&mut self) -> Option<(u64, SendKind)> {
        if let Some((sequence, repeat)) = self.at_once.take() {
            return Some((sequence, SendKind::Repeat(repeat)));
        }
        let fresh_are_left = self.next_sequence < self.workload.buyers();
        // When no order is left, the remaining repeats are sent immediately: no further slots will come.
        if self.late.front().is_some_and(|&(from_slot, ..)| from_slot <= self.slot || !fresh_are_left) {
            return self.late.pop_front().map(|(_, sequence, repeat)| (sequence, SendKind::Repeat(repeat)));
        }
        if !fresh_are_left {
            return None;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if let Some(repeat) = self.workload.repeat(sequence) {
            if mix(self.workload.seed(), Salt::RepeatKind, sequence) & 1 == 0 {
                self.at_once = Some((sequence, repeat));
            } else {
                self.late.push_back((self.slot + self.late_slots, sequence, repeat));
            }
        }
        Some((sequence, SendKind::First))
    }
}

impl Iterator for Sends {
    type Item = Send;

    fn next(&mut self) -> Option<Send> {
        let (sequence, kind) = self.next_order()?;
        self.slot += 1;
        let at_ns = self.schedule.next()?;
        Some(Send { at_ns, sequence, kind })
    }
}
