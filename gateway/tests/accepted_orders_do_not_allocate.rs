//! Property: after warm-up, a gateway core processes an order up to its 202 without any allocation.
//!
//! Other allocations are allowed below, by their number:
//! - a read with several orders (pipelining): one boxed future per order, and four allocations for the lists around them
//!   (`connection.rs`, `answer_all`; `shard/src/join.rs`);
//! - the timestamp of log lines: three allocations per millisecond that has a line (`shard/src/log.rs`, `line_at`);
//! - the sweep, every 100 ms: three tasks, names and stock levels of the items (`sweep.rs`).
//!
//! Method: a counting allocator that checks the name of the calling thread, so that only cores count (librdkafka is C and
//! has its own allocator). Kafka is the embedded broker. Redis is a fake server in this test that admits every order, so
//! that the cores use the production connection instead of the in-memory store, which allocates for what it stores.

mod test_gateway;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use shard::log::{Level, Sink};
use test_gateway::{TestGateway, order};
use testkit::http::Client;
use wire::resp::{self, Reply};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations are counted while this is set.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// Backtraces are recorded as well while this is set, which is slow.
static IS_LISTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static PLACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// Set while this thread records an allocation, so that allocations made by the recording do not count.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is an unsafe trait; every call is forwarded unchanged to the system allocator"
)]
// SAFETY: the system allocator upholds the contract; the added code does not touch the memory it returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn note() {
    if !IS_COUNTING.load(Ordering::Relaxed) || !is_core() {
        return;
    }
    // An exiting thread no longer has the cell, and is not a working core.
    let was_busy = IS_BUSY.try_with(|is_busy| is_busy.replace(true)).unwrap_or(true);
    if was_busy {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if IS_LISTING.load(Ordering::Relaxed) {
        let place = Backtrace::force_capture();
        PLACES.lock().expect("no panic while locked").push(place);
    }
    IS_BUSY.with(|is_busy| is_busy.set(false));
}

/// Whether this thread is a core: cores are named `gateway-<index>`. Asks the system, because the standard library's
/// answer allocates.
fn is_core() -> bool {
    let mut name = [0_u8; 16];
    #[expect(unsafe_code, reason = "the standard library allocates to return a thread's name")]
    // SAFETY: PR_GET_NAME writes at most 16 bytes, including the terminator, to the pointer.
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    result == 0 && name.starts_with(b"gateway-")
}

/// Number of connections, which all have orders in flight at the same time.
const BUYERS: usize = 32;
/// Orders per measured batch: few enough that the sweep runs at most once or twice during a batch.
const BATCH_ORDERS: usize = 1024;
/// Maximum batches until one must satisfy the property. A buffer grows when a batch of commands is larger than all
/// before, which happens at random; an allocation per order would appear in every batch.
const BATCHES_MAX: usize = 15;
/// Allocations of the sweep every 100 ms: three tasks, and the names and stock levels of the items.
const SWEEP_ALLOCATIONS: u64 = 10;
/// Allocations of a log timestamp, which is formatted once per millisecond.
const STAMP_ALLOCATIONS: u64 = 3;

/// How orders are sent, and how many allocations are allowed.
struct Case {
    level: Level,
    /// Orders per write of a connection.
    pipelined: usize,
    /// Allowed allocations per order.
    per_order: u64,
    /// Allowed allocations per read with more than one order.
    per_read: u64,
}

// A single test, because the count is global to the process.
#[test]
fn accepted_orders_do_not_allocate() {
    let redis = admitting_redis();
    let cases = [
        Case { level: Level::Warn, pipelined: 1, per_order: 0, per_read: 0 },
        Case { level: Level::Info, pipelined: 1, per_order: 0, per_read: 0 },
        Case { level: Level::Warn, pipelined: 8, per_order: 1, per_read: 4 },
    ];
    for case in &cases {
        check(case, &redis);
    }
}

fn check(case: &Case, redis: &str) {
    let Case { level, pipelined, per_order, per_read } = *case;
    let (sink, _) = Sink::start("gateway", level, std::io::sink()).expect("log thread");
    // The counting allocator slows orders down; none may be shed because of that.
    let variables = [("REDIS_ADDR", redis), ("WORKERS", "1"), ("OVERLOAD_TARGET_DELAY", "60s")];
    let test_gateway = TestGateway::logging(&variables, sink);
    let mut buyers: Vec<Client> = (0..BUYERS).map(|_| test_gateway.client()).collect();
    let rounds = BATCH_ORDERS / BUYERS / pipelined;
    // With pipelining, a read returns at least one order and at best all of them.
    let own = per_order * BATCH_ORDERS as u64 + per_read * (BATCH_ORDERS / pipelined) as u64;
    let mut number = 0;
    let mut seen = Vec::new();
    // The first orders are sent while the broker is not connected yet.
    send(&mut buyers, &mut number, rounds, pipelined);
    for _ in 0..BATCHES_MAX {
        let began = Instant::now();
        let counted = count(|| send(&mut buyers, &mut number, rounds, pipelined));
        let ms = began.elapsed().as_millis() as u64 + 1;
        let stamps = if level <= Level::Info { STAMP_ALLOCATIONS * ms } else { 0 };
        let allowed = own + SWEEP_ALLOCATIONS * (ms / 100 + 1) + stamps;
        seen.push((counted, allowed));
        if counted <= allowed {
            return;
        }
    }
    IS_LISTING.store(true, Ordering::SeqCst);
    count(|| send(&mut buyers, &mut number, rounds, pipelined));
    IS_LISTING.store(false, Ordering::SeqCst);
    panic!(
        "{pipelined} at once, {level:?}: (counted, allowed) of each {BATCH_ORDERS} orders: {seen:?}\n{}",
        places()
    );
}

/// Allocations on cores while `work` runs.
fn count(work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    IS_COUNTING.store(true, Ordering::SeqCst);
    work();
    IS_COUNTING.store(false, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst)
}

/// The recorded allocation sites, most frequent first: the innermost frames in this workspace.
fn places() -> String {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for place in PLACES.lock().expect("no panic while locked").drain(..) {
        let text = place.to_string();
        let is_ours =
            |line: &&str| line.contains("/src/") && !line.contains("/rustc/") && !line.contains("/registry/");
        let lines: Vec<&str> = text.lines().map(str::trim).filter(is_ours).take(3).collect();
        *counts.entry(lines.join(", ")).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines: Vec<String> =
        counts.into_iter().map(|(place, count)| format!("{count} times {place}")).collect();
    lines.join("\n")
}

/// Runs `rounds` rounds: each buyer sends `pipelined` orders in one write, then all must be answered 202.
fn send(buyers: &mut [Client], number: &mut usize, rounds: usize, pipelined: usize) {
    for _ in 0..rounds {
        for buyer in &mut *buyers {
            let mut requests = Vec::new();
            for _ in 0..pipelined {
                *number += 1;
                let body = order(&format!("u{number:08}"), &format!("r{number:08}"));
                requests.extend(buyer.buy_request(&body, &[]));
            }
            buyer.send_raw(&requests);
        }
        for buyer in &mut *buyers {
            for _ in 0..pipelined {
                let response = buyer.read_response();
                assert_eq!(response.status, 202, "{}", response.text());
            }
        }
    }
}

/// Starts a fake Redis that admits everything and returns its address. It runs until the test process exits.
fn admitting_redis() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || admit_all(stream));
        }
    });
    address
}

fn admit_all(mut stream: TcpStream) {
    let (mut received, mut answers, mut chunk) = (Vec::new(), Vec::new(), [0; 16 * 1024]);
    while let Ok(count) = stream.read(&mut chunk)
        && count > 0
    {
        received.extend_from_slice(&chunk[..count]);
        let mut at = 0;
        while let Ok(Some((Reply::Array(mut words), consumed))) = resp::parse(&received[at..]) {
            let length = words.len();
            match words.next() {
                Some(Reply::Bulk(b"SCRIPT")) => resp::write_bulk(&mut answers, &[b'a'; 40]),
                // An admission: both the window and the id are new.
                Some(Reply::Bulk(b"SET")) if length == 6 => answers.extend_from_slice(b"+OK\r\n"),
                Some(Reply::Bulk(b"SET")) => answers.extend_from_slice(b"$-1\r\n"),
                Some(Reply::Bulk(b"PSETEX")) => answers.extend_from_slice(b"+OK\r\n"),
                Some(Reply::Bulk(b"MGET")) => {
                    resp::write_array(&mut answers, length - 1);
                    (1..length).for_each(|_| answers.extend_from_slice(b"$-1\r\n"));
                }
                // The probe.
                _ => answers.extend_from_slice(b":0\r\n"),
            }
            at += consumed;
        }
        received.drain(..at);
        if stream.write_all(&answers).is_err() {
            return;
        }
        answers.clear();
    }
}
