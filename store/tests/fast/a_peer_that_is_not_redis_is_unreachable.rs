//! Property: if something other than a working Redis listens at the address, the connection stays
//! unreachable, reports the reason, and retries with its back-off.
//! Method: listeners that close, stay silent, speak another protocol, or reply without end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::admit;
use store::{Store, StoreError, StoreSteps};

use crate::harness;

/// Passes every connection to `answer`; returns the last error after 1.5 s, and the number of connections
/// made.
fn last_error_from(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address").to_string();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    // The thread ends with the test process: it only waits for the next connection.
    std::thread::spawn(move || {
        let answer = Arc::new(answer);
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    let last_error = harness::on_core(async move {
        let store = harness::open(&addr, harness::policy());
        assert!(!store.reachable_within(Duration::from_millis(1500)).await);
        assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Unreachable));
        assert!(!store.is_reachable());
        store.last_error().expect("a reason")
    });
    (last_error, tries.load(Ordering::Relaxed))
}

#[test]
fn peer_closes_the_connection() {
    let (last_error, tries) = last_error_from(drop);
    assert!(last_error.contains("closed") || last_error.contains("cannot"), "{last_error}");
    // 50 + 100 + 200 + 400 + 800 ms, each at least half: at most six pauses in 1.5 s.
    assert!((3..=7).contains(&tries), "{tries}");
}

#[test]
fn peer_is_silent() {
    let (last_error, tries) = last_error_from(|mut stream| {
        // Reads until the client closes the connection.
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    });
    assert!(last_error.contains("no reply within 500 ms"), "{last_error}");
    assert!((2..=3).contains(&tries), "{tries}");
}

#[test]
fn peer_speaks_another_protocol() {
    let (last_error, _) = last_error_from(|mut stream| {
        // A client that is already gone is not a failure of this test.
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    assert!(last_error.contains("does not speak the Redis protocol"), "{last_error}");
}

#[test]
fn peer_sends_endless_replies() {
    let (last_error, _) = last_error_from(|mut stream| while stream.write_all(b"+OK\r\n").is_ok() {});
    assert!(!last_error.is_empty());
}

#[test]
fn peer_replies_ok_to_everything() {
    let (last_error, _) = last_error_from(|mut stream| {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            // A command begins with an asterisk; no line of a script does.
            let is_begin = |at: &usize| bytes[*at] == b'*' && (*at == 0 || bytes[at - 1] == b'\n');
            for _ in (0..count).filter(is_begin) {
                let _ = stream.write_all(b"+OK\r\n");
            }
        }
    });
    assert!(last_error.contains("SCRIPT LOAD"), "{last_error}");
}

#[test]
fn peer_is_loading_its_data() {
    let (last_error, _) = last_error_from(|mut stream| {
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            let _ = stream.write_all(b"-LOADING Redis is loading the dataset in memory\r\n");
        }
    });
    assert!(last_error.contains("LOADING"), "{last_error}");
}

#[test]
fn host_name_does_not_resolve() {
    harness::on_core(async move {
        let store = harness::open("no-such-host.invalid:6379", harness::policy());
        assert!(!store.reachable_within(Duration::from_millis(300)).await);
        assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Unreachable));
    });
}
