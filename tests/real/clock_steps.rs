//! Property: clients notice nothing when the wall clock is stepped back or forward while the processes run: both stay healthy,
//! orders are accepted and processed, and SIGTERM stops both processes in order.
//! Method: libfaketime steps the wall clock of running processes by −600 s and +3,600 s; as in a real step, the monotonic
//! clock does not change. libfaketime does not intercept libc's C11 threads, which librdkafka uses: without
//! `src/monotonic_waits.rs` its waits end at once (−600 s: it spins, `kafka:false`) or an hour late (+3,600 s: it never exits).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use process::{Process, WAIT_MAX, World};
use testkit::http::Client;
use testkit::{TempDir, wait_until};

use crate::process;

/// The library as installed by `cargo xtask test`, else at Debian's path.
fn library() -> PathBuf {
    let usual = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let path = std::env::var_os("TEST_FAKETIME").map_or_else(|| PathBuf::from(usual), PathBuf::from);
    assert!(path.exists(), "no {}: apt-get install faketime, or cargo xtask test", path.display());
    path
}

struct Clock {
    file: PathBuf,
    _dir: TempDir,
}

impl Clock {
    fn new() -> Self {
        let dir = TempDir::new("clock");
        let clock = Self { file: dir.path().join("offset"), _dir: dir };
        clock.set("+0");
        clock
    }

    fn set(&self, offset: &str) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{offset}\n")).expect("a file");
        fs::rename(next, &self.file).expect("an atomic rename");
    }

    fn start(&self, world: &World, subcommand: &str) -> Process {
        let (library, file) = (library(), self.file.to_string_lossy().into_owned());
        world.start_with(
            subcommand,
            &[
                ("LD_PRELOAD", library.to_str().expect("UTF-8")),
                ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
                ("FAKETIME_NO_CACHE", "1"),
                // Old and new name of the same option.
                ("DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                // Otherwise it treats deadlines of the monotonic clock as wall-clock times.
                ("FAKETIME_FORCE_MONOTONIC_FIX", "0"),
                ("PAYMENT_FAILURE_RATE", "0"),
                ("SHUTDOWN_TIMEOUT", "5s"),
            ],
            std::process::Stdio::null(),
            std::process::Stdio::inherit(),
        )
    }
}

fn step(offset: &str) {
    let world = World::new();
    world.store.set_stock("101", 1000);
    let clock = Clock::new();
    let (gateway, processor) = (clock.start(&world, "gateway"), clock.start(&world, "processor"));
    gateway.wait_health(200);
    processor.wait_health(200);
    let mut client = Client::connect(gateway.address().as_str());
    let mut ids = Vec::new();
    let mut buy = |count: usize| {
        for _ in 0..count {
            let id = format!("r-{}", ids.len());
            let order = format!(r#"{{"user_id":"{id}","item_id":"101","amount":1,"request_id":"{id}"}}"#);
            assert_eq!(client.post_buy(&order, &[]).status, 202, "{id}");
            ids.push(id);
        }
        world.wait_for_final_status(&ids, ids.len());
    };
    buy(20);
    clock.set(offset);
    let stepped = Instant::now();
    // Longer than any probe or poll interval, so that any wait by the wall clock would be stuck by then.
    while stepped.elapsed() < Duration::from_secs(8) {
        buy(5);
        for process in [&gateway, &processor] {
            assert_eq!(process.health(), Some(200), "{:?} after {offset}", stepped.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(client);
    for process in [gateway, processor] {
        let begun = Instant::now();
        assert_eq!(process.terminate(), Some(0), "after {offset}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?} after {offset}", begun.elapsed());
    }
    wait_until("units were sold", WAIT_MAX, || world.store.left("101").is_some_and(|left| left < 1000));
}

#[test]
fn step_of_ten_minutes_back_is_harmless() {
    step("-600");
}

#[test]
fn step_of_an_hour_forward_is_harmless() {
    step("+3600");
}
