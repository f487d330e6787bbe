//! The table of orders that wait for a reply.
//!
//! A future opens a slot and waits. The task that receives the reply (the Redis reader, the receiver of delivery reports)
//! completes the slot by its ticket, in bulk, without a channel or an allocation per order. Slots are reused; because of
//! the generation in a `Ticket`, a reply that arrives after its future was dropped is ignored.
//!
//! Not `Send`: one core owns it. Bound: `slots_max`, set by the owner.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Generations wrap at 24 bits, which leaves room for slot and core in one 64-bit number.
const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Identifies one use of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

impl Ticket {
    /// Encodes the ticket: slot in bits 0..32, generation in bits 32..56. Bits 56..64 are free for the core.
    pub fn to_bits(self) -> u64 {
        u64::from(self.slot) | (u64::from(self.generation) << 32)
    }

    /// The inverse of [`Ticket::to_bits`]; bits 56..64 are ignored.
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 & GENERATION_MASK }
    }
}

struct Slot<T> {
    generation: u32,
    state: State<T>,
}

enum State<T> {
    Free,
    Waiting { opened: Instant, waker: Option<Waker> },
    Done(T),
}

struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// The slots of one core for replies of type `T`.
pub struct Waiters<T> {
    table: RefCell<Table<T>>,
    slots_max: usize,
}

impl<T> Waiters<T> {
    /// A table that never has more than `slots_max` slots open (at most `u32::MAX`).
    pub fn new(slots_max: usize) -> Rc<Self> {
        Rc::new(Self { table: RefCell::new(Table { slots: Vec::new(), free: Vec::new() }), slots_max })
    }

    /// Opens a slot at `now`; `None` when the bound is reached.
    pub fn open(self: &Rc<Self>, now: Instant) -> Option<Wait<T>> {
        let mut table = self.table.borrow_mut();
        let slot = if let Some(slot) = table.free.pop() {
            slot
        } else {
            if table.slots.len() >= self.slots_max {
                return None;
            }
            table.slots.push(Slot { generation: 0, state: State::Free });
            (table.slots.len() - 1) as u32
        };
        let entry = &mut table.slots[slot as usize];
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        entry.state = State::Waiting { opened: now, waker: None };
        let ticket = Ticket { slot, generation: entry.generation };
        drop(table);
        Some(Wait { ticket, waiters: Rc::clone(self) })
    }

    /// Completes a slot with a reply; false when no future waits for that ticket any more.
    pub fn complete(&self, ticket: Ticket, answer: T) -> bool {
        let waker = {
            let mut table = self.table.borrow_mut();
            let Some(entry) = table.slots.get_mut(ticket.slot as usize) else { return false };
            if entry.generation != ticket.generation {
                return false;
            }
            let State::Waiting { waker, .. } = &mut entry.state else { return false };
            let waker = waker.take();
            entry.state = State::Done(answer);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether a future still waits for this ticket: neither completed nor dropped.
    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        let table = self.table.borrow();
        table.slots.get(ticket.slot as usize).is_some_and(|entry| {
            entry.generation == ticket.generation && matches!(entry.state, State::Waiting { .. })
        })
    }

    /// Completes every slot that was opened before `opened_before`; returns their number. A sweep calls this, so that orders
    /// need no timers.
    pub fn expire(&self, opened_before: Instant, mut answer: impl FnMut() -> T) -> usize {
        let late: Vec<Ticket> = {
            let table = self.table.borrow();
            let is_late = |slot: &Slot<T>| matches!(slot.state, State::Waiting { opened, .. } if opened < opened_before);
            let ticket = |(index, slot): (usize, &Slot<T>)| {
                is_late(slot).then_some(Ticket { slot: index as u32, generation: slot.generation })
            };
            table.slots.iter().enumerate().filter_map(ticket).collect()
        };
        late.into_iter().filter(|&ticket| self.complete(ticket, answer())).count()
    }

    /// Number of open slots: waiting, or completed and not yet picked up.
    pub fn open_count(&self) -> usize {
        let table = self.table.borrow();
        table.slots.len() - table.free.len()
    }
}

/// One open slot as a future. Dropping it frees the slot.
pub struct Wait<T> {
    ticket: Ticket,
    waiters: Rc<Waiters<T>>,
}

impl<T> Wait<T> {
    /// The ticket that completes this wait.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<T> Future for Wait<T> {
    type Output = T;

    /// Ready once; the slot is freed when the wait is dropped.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut table = self.waiters.table.borrow_mut();
        let state = &mut table.slots[self.ticket.slot as usize].state;
        match std::mem::replace(state, State::Free) {
            State::Done(answer) => Poll::Ready(answer),
            State::Waiting { opened, .. } => {
                *state = State::Waiting { opened, waker: Some(context.waker().clone()) };
                Poll::Pending
            }
            State::Free => Poll::Pending,
        }
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        let abandoned = {
            let mut table = self.waiters.table.borrow_mut();
            let entry = &mut table.slots[self.ticket.slot as usize];
            let abandoned = std::mem::replace(&mut entry.state, State::Free);
            table.free.push(self.ticket.slot);
            abandoned
        };
        // The reply may own something whose drop accesses this table, so drop it only after the borrow has ended.
        drop(abandoned);
    }
}
