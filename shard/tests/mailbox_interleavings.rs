//! Property: under every interleaving of senders and the core, every posted item arrives once, items of one sender arrive in
//! order, the bound holds, and a waiting core is woken.
//! Method: loom runs the production source of the mailbox, compiled here with loom's mutex, through every interleaving; a lost
//! wake-up appears as a deadlock.

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

#[path = "../src/mailbox.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test uses a part of the mailbox")]
mod mailbox;

/// Replaces the mutex of `mailbox.rs` with loom's, with the interface of `parking_lot`.
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

/// Takes until `count` items have arrived.
fn take(mailbox: &Mailbox<u32>, count: usize) -> Vec<u32> {
    let (mut all, mut batch) = (Vec::new(), Vec::new());
    while all.len() < count {
        block_on(mailbox.take(&mut batch));
        assert!(!batch.is_empty(), "woken without items");
        all.append(&mut batch);
    }
    all
}

#[test]
fn two_senders_wake_a_sleeping_core_and_no_item_is_lost() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(10));
        let senders: Vec<_> = [10, 20]
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
        for sender in senders {
            sender.join().expect("no panic");
        }
    });
}

#[test]
fn items_of_one_sender_keep_their_order() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(10));
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                mailbox.post(1).expect("room");
                mailbox.post_all(&mut vec![2, 3]).expect("room");
            })
        };
        assert_eq!(take(&mailbox, 3), [1, 2, 3]);
        sender.join().expect("no panic");
    });
}

#[test]
fn items_that_do_not_fit_stay_with_their_sender() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::new(2));
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let mut items = vec![1, 2, 3];
                let posted = mailbox.post_all(&mut items);
                assert_eq!(posted.is_err(), !items.is_empty());
                if posted == Err(Full) { items } else { Vec::new() }
            })
        };
        assert!(mailbox.post(9).is_ok() || mailbox.len() == 2);
        assert!(mailbox.len() <= 2, "never above the bound");
        let mut batch = Vec::new();
        mailbox.try_take(&mut batch);
        assert!(batch.len() <= 2);
        let left = sender.join().expect("no panic");
        let mut rest = Vec::new();
        mailbox.try_take(&mut rest);
        batch.extend(rest);
        batch.retain(|&item| item != 9);
        batch.extend(left);
        assert_eq!(batch, [1, 2, 3], "delivered or returned, in order");
    });
}
