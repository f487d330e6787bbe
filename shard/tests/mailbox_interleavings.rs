//! Promise: whatever the interleaving of posters and the core, every letter that was taken in arrives once, those of a
//! poster in order, the bound holds, and a core that sleeps is woken. Method: loom leads the production source of the
//! mailbox, compiled here with loom's mutex, through every interleaving; a wake that is lost is a deadlock there.

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

#[path = "../src/mailbox.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test uses its part of the mailbox")]
mod mailbox;

/// What `mailbox.rs` knows as its mutex: loom's, with the interface of `parking_lot`.
mod sync {
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("loom does not poison")
        }
    }
}

use mailbox::{Full, Mailbox};

/// Takes until `count` letters are there.
fn take(mailbox: &Mailbox<u32>, count: usize) -> Vec<u32> {
    let (mut all, mut pile) = (Vec::new(), Vec::new());
    while all.len() < count {
        block_on(mailbox.take(&mut pile));
        assert!(!pile.is_empty(), "woken for nothing");
        all.append(&mut pile);
    }
    all
}

#[test]
fn two_posters_wake_a_sleeping_core_and_lose_nothing() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(10));
        let posters: Vec<_> = [10, 20]
            .into_iter()
            .map(|number| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.post(number).expect("room"))
            })
            .collect();
        let mut all = take(&mailbox, 2);
        all.sort_unstable();
        assert_eq!(all, [10, 20]);
        assert!(mailbox.is_empty());
        for poster in posters {
            poster.join().expect("no panic");
        }
    });
}

#[test]
fn letters_of_a_poster_keep_their_order() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(10));
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                mailbox.post(1).expect("room");
                mailbox.post_all(&mut vec![2, 3]).expect("room");
            })
        };
        assert_eq!(take(&mailbox, 3), [1, 2, 3]);
        poster.join().expect("no panic");
    });
}

#[test]
fn what_does_not_fit_stays_with_its_poster() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(2));
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let mut letters = vec![1, 2, 3];
                let posted = mailbox.post_all(&mut letters);
                assert_eq!(posted.is_err(), !letters.is_empty());
                if posted == Err(Full) { letters } else { Vec::new() }
            })
        };
        assert!(mailbox.post(9).is_ok() || mailbox.len() == 2);
        assert!(mailbox.len() <= 2, "never above the bound");
        let mut pile = Vec::new();
        mailbox.try_take(&mut pile);
        assert!(pile.len() <= 2);
        let left = poster.join().expect("no panic");
        let mut rest = Vec::new();
        mailbox.try_take(&mut rest);
        pile.extend(rest);
        pile.retain(|&letter| letter != 9);
        pile.extend(left);
        assert_eq!(pile, [1, 2, 3], "taken in or given back, in order");
    });
}
