//! All requests of a run in the order of their arrival: every order once, and some a second time.
//!
//! A repeat comes either in the very next slot (a double click, which meets the first while it is still on the road)
//! or about 100 ms of arrivals later, half of them each.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::plan::Plan;
use crate::schedule::{Salt, Schedule, mix};
use crate::workload::{Repeat, Workload};

/// One request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// When it is due, nanoseconds from the start of the run.
    pub at_ns: u64,
    /// Which order.
    pub sequence: u64,
    /// Which time it is.
    pub turn: Turn,
}

/// Which send of an order it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The first.
    First,
    /// The repeat of the plan.
    Repeat(Repeat),
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
    at_once: Option<(u64, Repeat)>,
    /// Slot from which an order may be repeated, ascending.
    late: VecDeque<(u64, u64, Repeat)>,
}

/// Longest distance of a late repeat, in slots.
const LATE_SLOTS_MAX: u64 = 65_536;

impl Sends {
    /// From the first one on.
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

    fn next_order(&mut self) -> Option<(u64, Turn)> {
        if let Some((sequence, repeat)) = self.at_once.take() {
            return Some((sequence, Turn::Repeat(repeat)));
        }
        let fresh_are_left = self.next_sequence < self.workload.buyers();
        // When no order is left, the last repeats do not wait for slots that will not come.
        if self.late.front().is_some_and(|&(from_slot, ..)| from_slot <= self.slot || !fresh_are_left) {
            return self.late.pop_front().map(|(_, sequence, repeat)| (sequence, Turn::Repeat(repeat)));
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
        Some((sequence, Turn::First))
    }
}

impl Iterator for Sends {
    type Item = Send;

    fn next(&mut self) -> Option<Send> {
        let (sequence, turn) = self.next_order()?;
        self.slot += 1;
        let at_ns = self.schedule.next()?;
        Some(Send { at_ns, sequence, turn })
    }
}
