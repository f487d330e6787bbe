//! Which admissions of a core are resolved.
//!
//! Confirming each acknowledged id in Redis would double its work. Instead every admission carries the core's owner
//! name and a rising number; the core writes one watermark now and then («everything up to here is acknowledged,
//! released or suspended»), and only the path of a duplicate reads it (design.md, rule 3).
//!
//! Bound: `span_max` numbers between the watermark and the newest; over it no admission begins. It is reached only
//! when one order is stuck while that many others pass: PUBLISH_TIMEOUT at full speed is 2 s × 40,000.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Numbers that may lie between watermark and newest: 1 byte each.
const SPAN_MAX: usize = 1 << 18;

/// The admissions of one core.
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
    /// The watermark that the store has.
    written: u64,
}

/// One admission's number. Resolve it; one that is dropped unresolved (a panic between admission and answer) ends its
/// owner's life, so that its id can be taken over after `PUBLISH_TIMEOUT` instead of looking confirmed.
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

    /// The next number, or `None` at the bound.
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

    /// The owner and the watermark, when it is higher than what the store has.
    pub fn due(&self) -> Option<(Rc<str>, u64)> {
        let window = self.window.borrow();
        (window.watermark > window.written).then(|| (Rc::clone(&window.owner), window.watermark))
    }

    /// The store has this watermark.
    pub fn written(&self, owner: &Rc<str>, watermark: u64) {
        let mut window = self.window.borrow_mut();
        if window.owner == *owner {
            window.written = window.written.max(watermark);
        }
    }

    /// Numbers not yet below the watermark.
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
    /// The owner under which it was admitted.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Acknowledged, released, suspended, or never taken.
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
    fn the_watermark_waits_for_the_oldest() {
        let sequences = Sequences::new("g".to_owned());
        let mut begun: Vec<_> = (0..3).filter_map(|_| sequences.begin()).collect();
        assert_eq!(begun.iter().map(Sequence::number).collect::<Vec<_>>(), [1, 2, 3]);
        begun.pop().expect("3").resolve();
        begun.pop().expect("2").resolve();
        assert!(sequences.due().is_none(), "1 is still on the road");
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
