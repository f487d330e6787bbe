//! Tracks which admissions of a core are resolved.
//!
//! Confirming each acknowledged id in Redis would double Redis's work. Instead every admission carries the core's owner
//! name and an increasing number. The core periodically writes one watermark ("everything up to here is acknowledged,
//! released or suspended"), and only the handling of a duplicate reads it (ARCHITECTURE.md, rule 3).
//!
//! Bound: `SPAN_MAX` numbers between the watermark and the newest; above it no admission starts. It is reached only
//! when one order is stuck while that many others pass: PUBLISH_TIMEOUT at full speed is 2 s × 40,000.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Maximum numbers between watermark and newest, at 1 byte each.
const SPAN_MAX: usize = 1 << 18;

/// The admission numbers of one core.
pub struct Sequences {
    core_name: String,
    epoch: Cell<u64>,
    window: RefCell<Window>,
}

struct Window {
    owner: Rc<str>,
    /// Every number up to this one is resolved.
    watermark: u64,
    /// Whether `watermark + 1 + i` is resolved.
    resolved: VecDeque<bool>,
    /// The watermark last written to the store.
    written: u64,
}

/// The number of one admission. It must be resolved. If it is dropped unresolved (a panic between admission and
/// response), its owner name is retired, so that the id can be taken over after `PUBLISH_TIMEOUT` instead of appearing
/// confirmed.
pub struct Sequence {
    sequences: Rc<Sequences>,
    owner: Rc<str>,
    number: u64,
    is_resolved: bool,
}

impl Sequences {
    /// `core_name` must be unique among all cores of all gateways, ever: `[A-Za-z0-9]{1,24}`.
    pub fn new(core_name: String) -> Rc<Self> {
        let window = RefCell::new(Window::new(&core_name, 0));
        Rc::new(Self { core_name, epoch: Cell::new(0), window })
    }

    /// The next number; `None` when the bound is reached.
    pub fn begin(self: &Rc<Self>) -> Option<Sequence> {
        let mut window = self.window.borrow_mut();
        if window.resolved.len() >= SPAN_MAX {
            return None;
        }
        window.resolved.push_back(false);
        let number = window.watermark + window.resolved.len() as u64;
        Some(Sequence {
            sequences: Rc::clone(self),
            owner: Rc::clone(&window.owner),
            number,
            is_resolved: false,
        })
    }

    /// Owner and watermark, if the watermark is higher than the one in the store.
    pub fn due(&self) -> Option<(Rc<str>, u64)> {
        let window = self.window.borrow();
        (window.watermark > window.written).then(|| (Rc::clone(&window.owner), window.watermark))
    }

    /// Records that the store has this watermark.
    pub fn written(&self, owner: &Rc<str>, watermark: u64) {
        let mut window = self.window.borrow_mut();
        if window.owner == *owner {
            window.written = window.written.max(watermark);
        }
    }

    /// Count of numbers above the watermark.
    pub fn span(&self) -> usize {
        self.window.borrow().resolved.len()
    }

    fn resolve(&self, owner: &Rc<str>, number: u64) {
        let mut window = self.window.borrow_mut();
        if window.owner != *owner {
            return;
        }
        let index = (number - window.watermark - 1) as usize;
        if let Some(slot) = window.resolved.get_mut(index) {
            *slot = true;
        }
        while window.resolved.front() == Some(&true) {
            window.resolved.pop_front();
            window.watermark += 1;
        }
    }

    fn abandon(&self, owner: &Rc<str>) {
        let mut window = self.window.borrow_mut();
        if window.owner == *owner {
            self.epoch.set(self.epoch.get() + 1);
            *window = Window::new(&self.core_name, self.epoch.get());
        }
    }
}

impl Window {
    fn new(core_name: &str, epoch: u64) -> Self {
        let owner = format!("{core_name}e{epoch}").into();
        Self { owner, watermark: 0, resolved: VecDeque::new(), written: 0 }
    }
}

impl Sequence {
    /// The owner name under which the order was admitted.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Marks the admission as acknowledged, released, suspended or never made.
    pub fn resolve(mut self) {
        self.is_resolved = true;
        self.sequences.resolve(&self.owner, self.number);
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if !self.is_resolved {
            self.sequences.abandon(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_waits_for_the_oldest_admission() {
        let sequences = Sequences::new("g".to_owned());
        let mut begun: Vec<_> = (0..3).filter_map(|_| sequences.begin()).collect();
        assert_eq!(begun.iter().map(Sequence::number).collect::<Vec<_>>(), [1, 2, 3]);
        begun.pop().expect("3").resolve();
        begun.pop().expect("2").resolve();
        assert!(sequences.due().is_none(), "1 is still in flight");
        begun.pop().expect("1").resolve();
        let (owner, watermark) = sequences.due().expect("all are resolved");
        assert_eq!((owner.as_ref(), watermark), ("ge0", 3));
        sequences.written(&owner, watermark);
        assert!(sequences.due().is_none());
        assert_eq!(
            sequences.begin().map(|next| {
                let n = next.number();
                next.resolve();
                n
            }),
            Some(4)
        );
    }

    #[test]
    fn an_abandoned_admission_never_falls_below_a_watermark() {
        let sequences = Sequences::new("g".to_owned());
        let lost = sequences.begin().expect("1");
        let other = sequences.begin().expect("2");
        drop(lost);
        other.resolve();
        let next = sequences.begin().expect("1 of the next owner");
        assert_eq!((next.owner(), next.number()), ("ge1", 1));
        next.resolve();
        assert_eq!(
            sequences.due().map(|(owner, watermark)| (owner.to_string(), watermark)),
            Some(("ge1".to_owned(), 1))
        );
    }

    #[test]
    fn the_span_is_bounded() {
        let sequences = Sequences::new("g".to_owned());
        let mut begun: Vec<_> = (0..SPAN_MAX).filter_map(|_| sequences.begin()).collect();
        assert!(sequences.begin().is_none());
        begun.remove(0).resolve();
        assert!(sequences.begin().is_some_and(|sequence| {
            sequence.resolve();
            true
        }));
        for sequence in begun {
            sequence.resolve();
        }
        assert_eq!(sequences.span(), 0);
    }
}
