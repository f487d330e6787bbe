//! Compares our mailbox with `crossbeam`'s bounded queue and channel: the cost of passing delivery reports to a core.
//!
//! ```sh
//! cargo run --release --locked -p shard --example handoff
//! ```
//!
//! First, one thread posts and takes bursts, without contention. Then one thread posts as fast as there is space while
//! another takes, and sleeps when there is nothing. Results: nanoseconds per item, minimum of seven runs.

use std::future::Future as _;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use crossbeam_queue::ArrayQueue;
use shard::mailbox::Mailbox;

/// The size of a delivery report.
type Item = [u64; 4];

const ITEMS: usize = 1_000_000;
const RUNS: usize = 7;
/// Maximum number of orders in flight of a core, hence of delivery reports.
const CAPACITY: usize = 16_384;

/// A queue whose consumer can sleep.
trait HandOff: Send + Sync + 'static {
    /// Posts the items that fit, in order, and leaves the rest.
    fn post(&self, burst: &mut Vec<Item>);
    /// Waits for items and takes all of them.
    fn take(&self, into: &mut Vec<Item>);
}

/// Unparks a thread that polls a future itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Ours(Mailbox<Item>);

impl HandOff for Ours {
    fn post(&self, burst: &mut Vec<Item>) {
        // Items that did not fit stay in the burst.
        let _ = self.0.post_all(burst);
    }

    fn take(&self, into: &mut Vec<Item>) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut taking = pin!(self.0.take(into));
        while taking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            thread::park();
        }
    }
}

struct Queue {
    items: ArrayQueue<Item>,
    is_asleep: AtomicBool,
    taker: parking_lot::Mutex<Option<Thread>>,
}

impl HandOff for Queue {
    fn post(&self, burst: &mut Vec<Item>) {
        let fitting = burst.iter().take_while(|item| self.items.push(**item).is_ok()).count();
        burst.drain(..fitting);
        if self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(taker) = &*self.taker.lock()
        {
            taker.unpark();
        }
    }

    fn take(&self, into: &mut Vec<Item>) {
        loop {
            while let Some(item) = self.items.pop() {
                into.push(item);
            }
            if !into.is_empty() {
                return;
            }
            self.taker.lock().get_or_insert_with(thread::current);
            self.is_asleep.store(true, Ordering::SeqCst);
            if self.items.is_empty() {
                thread::park();
            }
        }
    }
}

struct Channel(Sender<Item>, Receiver<Item>);

impl HandOff for Channel {
    fn post(&self, burst: &mut Vec<Item>) {
        let fitting = burst.iter().take_while(|item| self.0.try_send(**item).is_ok()).count();
        burst.drain(..fitting);
    }

    fn take(&self, into: &mut Vec<Item>) {
        into.extend(self.1.recv());
        into.extend(self.1.try_iter());
    }
}

fn alone(hand_off: &impl HandOff, burst_items: usize) -> f64 {
    let (mut burst, mut taken) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for number in 0..ITEMS / burst_items {
        burst.resize(burst_items, [number as u64; 4]);
        hand_off.post(&mut burst);
        hand_off.take(&mut taken);
        black_box(&taken);
        taken.clear();
    }
    begun.elapsed().as_nanos() as f64 / ITEMS as f64
}

fn between_threads(hand_off: &Arc<impl HandOff>, burst_items: usize) -> f64 {
    let taker = Arc::clone(hand_off);
    let begun = Instant::now();
    let taking = thread::spawn(move || {
        let (mut taken, mut count) = (Vec::new(), 0);
        while count < ITEMS {
            taker.take(&mut taken);
            count += black_box(&taken).len();
            taken.clear();
        }
    });
    let (mut burst, mut left) = (Vec::new(), ITEMS);
    while left > 0 || !burst.is_empty() {
        if burst.is_empty() {
            let count = burst_items.min(left);
            burst.resize(count, [left as u64; 4]);
            left -= count;
        }
        hand_off.post(&mut burst);
        if !burst.is_empty() {
            thread::yield_now();
        }
    }
    taking.join().expect("no panic");
    begun.elapsed().as_nanos() as f64 / ITEMS as f64
}

fn main() {
    let least = |run: &mut dyn FnMut() -> f64| (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min);
    let ours = || Ours(Mailbox::new(CAPACITY));
    let queue = || Queue {
        items: ArrayQueue::new(CAPACITY),
        is_asleep: AtomicBool::new(false),
        taker: parking_lot::Mutex::default(),
    };
    let channel = || {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        Channel(sender, receiver)
    };
    println!("| items per burst | | Mailbox | ArrayQueue | crossbeam-channel |\n|---|---|---|---|---|");
    for burst_items in [1, 4, 16, 64] {
        println!(
            "| {burst_items} | one thread | {:.1} | {:.1} | {:.1} |",
            least(&mut || alone(&ours(), burst_items)),
            least(&mut || alone(&queue(), burst_items)),
            least(&mut || alone(&channel(), burst_items)),
        );
        println!(
            "| {burst_items} | two threads | {:.1} | {:.1} | {:.1} |",
            least(&mut || between_threads(&Arc::new(ours()), burst_items)),
            least(&mut || between_threads(&Arc::new(queue()), burst_items)),
            least(&mut || between_threads(&Arc::new(channel()), burst_items)),
        );
    }
}
