//! Claim: once warm, a core of the gateway takes an order to its 202 without one allocation.
//!
//! What allocates beside that, and is allowed below by its number:
//! - a read that brings several orders (pipelining): a boxed future each, and four times the lists around them
//!   (`connection.rs`, `answer_all`; `shard/src/join.rs`);
//! - the time stamp of the log, once in a millisecond that has a line: three times (`shard/src/log.rs`, `line_at`);
//! - the sweep's round, every 100 ms: three tasks, names and levels of the items (`sweep.rs`).
//!
//! Method: a counting allocator that looks at the name of the thread it is called on, so that only the cores count
//! (librdkafka is C and has an allocator of its own). Kafka is the embedded broker; Redis is a server of this test that
//! admits every order, so that the cores use the connection of production and not the model, which keeps what it is told.

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

/// Counts while this is on.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// Keeps the places as well, which is slow.
static IS_LISTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static PLACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// Set while this thread is busy with an allocation of a core, so that what listing allocates does not count.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[expect(unsafe_code, reason = "an allocator is an unsafe trait; every call goes to the system's as it came")]
// SAFETY: the system's allocator keeps the promises; what is added touches no memory that it hands out.
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
    // A thread that ends has no cell any more, and is no core at work.
    let was_busy = IS_BUSY.try_with(|is_busy| is_busy.replace(true)).unwrap_or(true);
    if was_busy {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if IS_LISTING.load(Ordering::Relaxed) {
        let place = Backtrace::force_capture();
        PLACES.lock().expect("nobody panics with it").push(place);
    }
    IS_BUSY.with(|is_busy| is_busy.set(false));
}

/// Cores are the threads named `gateway-<index>`. Asked of the system: the standard library's answer allocates.
fn is_core() -> bool {
    let mut name = [0_u8; 16];
    #[expect(unsafe_code, reason = "the standard library names a thread only by allocating")]
    // SAFETY: PR_GET_NAME writes at most 16 bytes, its end included, to the pointer.
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    result == 0 && name.starts_with(b"gateway-")
}

/// Connections, each with its orders on the road at once.
const BUYERS: usize = 32;
/// Orders that are judged together: so few that the clock comes round once or twice at most.
const BATCH_ORDERS: usize = 1024;
/// Batches until one must be as promised. A buffer grows at the first batch of commands that is larger than all before,
/// and chance decides when that comes; an allocation an order would be in every batch.
const BATCHES_MAX: usize = 15;
/// What the sweep allocates in its round of 100 ms: three tasks, and the names and levels of the items.
const SWEEP_ALLOCATIONS: u64 = 10;
/// The time stamp of a log line, rendered once a millisecond.
const STAMP_ALLOCATIONS: u64 = 3;

/// How the orders come, and what they may allocate.
struct Case {
    level: Level,
    /// Orders that a connection sends at once.
    pipelined: usize,
    /// Allocations of each order.
    per_order: u64,
    /// Allocations of each read that brings more than one order.
    per_read: u64,
}

// One test, for the count is the process's.
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
    // The counting allocator slows orders down: none of them shall be shed for that.
    let variables = [("REDIS_ADDR", redis), ("WORKERS", "1"), ("OVERLOAD_TARGET_DELAY", "60s")];
    let test_gateway = TestGateway::logging(&variables, sink);
    let mut buyers: Vec<Client> = (0..BUYERS).map(|_| test_gateway.client()).collect();
    let rounds = BATCH_ORDERS / BUYERS / pipelined;
    // Every read of a pipeline brings at least one order, and at best all of them.
    let own = per_order * BATCH_ORDERS as u64 + per_read * (BATCH_ORDERS / pipelined) as u64;
    let mut number = 0;
    let mut seen = Vec::new();
    // The first orders meet a broker that is not connected yet.
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

/// The places of the allocations that were listed, the most frequent first: the innermost lines of this workspace.
fn places() -> String {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for place in PLACES.lock().expect("nobody panics with it").drain(..) {
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

/// So many rounds: each buyer sends `pipelined` orders in one write, then all are answered 202.
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

/// A Redis that admits everything; its address. Ends with the test's process.
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
                // An admission: the window is begun, and the id was free.
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
