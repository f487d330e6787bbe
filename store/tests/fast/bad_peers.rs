//! Claim: whatever listens at the address, the connection stays unreachable, says why, keeps trying within
//! its bounds, and works once a Redis is there. Method: listeners that close, are silent, speak something
//! else, or answer without end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use store::{Store, StoreError, StoreSteps};
use world::admit;

use crate::world;

/// Gives every connection to `answer`; returns the trouble after some tries, and how many connections were
/// made.
fn trouble_with(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").to_string();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    // Ends with the test process: it only ever waits for the next connection.
    std::thread::spawn(move || {
        let answer = Arc::new(answer);
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    let trouble = world::on_core(async move {
        let store = world::open(&addr, world::policy());
        assert!(!store.reachable_within(Duration::from_millis(1500)).await);
        assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Away));
        assert!(!store.is_reachable());
        store.trouble().expect("a reason")
    });
    (trouble, tries.load(Ordering::Relaxed))
}

#[test]
fn it_closes() {
    let (trouble, tries) = trouble_with(drop);
    assert!(trouble.contains("closed") || trouble.contains("cannot"), "{trouble}");
    // 50 + 100 + 200 + 400 + 800 ms, each at least half: at most six pauses in 1.5 s.
    assert!((3..=7).contains(&tries), "{tries}");
}

#[test]
fn it_is_silent() {
    let (trouble, tries) = trouble_with(|mut stream| {
        // Reads until the other side gives up.
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    });
    assert!(trouble.contains("no reply within 500 ms"), "{trouble}");
    assert!((2..=3).contains(&tries), "{tries}");
}

#[test]
fn it_speaks_something_else() {
    let (trouble, _) = trouble_with(|mut stream| {
        // A client that has gone already is no failure of this test.
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    assert!(trouble.contains("does not speak the protocol"), "{trouble}");
}

#[test]
fn it_answers_without_end() {
    let (trouble, _) = trouble_with(|mut stream| while stream.write_all(b"+OK\r\n").is_ok() {});
    assert!(!trouble.is_empty());
}

#[test]
fn it_agrees_to_everything() {
    let (trouble, _) = trouble_with(|mut stream| {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            // A command begins with a star; so do lines of no script.
            let is_begin = |at: &usize| bytes[*at] == b'*' && (*at == 0 || bytes[at - 1] == b'\n');
            for _ in (0..count).filter(is_begin) {
                let _ = stream.write_all(b"+OK\r\n");
            }
        }
    });
    assert!(trouble.contains("SCRIPT LOAD"), "{trouble}");
}

#[test]
fn it_loads_its_data() {
    let (trouble, _) = trouble_with(|mut stream| {
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            let _ = stream.write_all(b"-LOADING Redis is loading the dataset in memory\r\n");
        }
    });
    assert!(trouble.contains("LOADING"), "{trouble}");
}

#[test]
fn a_name_that_nobody_has() {
    world::on_core(async move {
        let store = world::open("no-such-host.invalid:6379", world::policy());
        assert!(!store.reachable_within(Duration::from_millis(300)).await);
        assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Away));
    });
}
