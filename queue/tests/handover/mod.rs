//! Members join and leave in the middle of a run: the check, for any broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use testkit::wait_until;

use crate::member::{Member, Membership, WAIT_MAX, committed, fill, offsets};

const PARTITIONS: i32 = 8;
const RECORDS: usize = 3000;
const ALL: usize = PARTITIONS as usize * RECORDS;

/// How often each record was finished.
type Finished = Arc<Mutex<BTreeMap<(i32, i64), u32>>>;

struct Worker {
    thread: thread::JoinHandle<()>,
    quit: Arc<AtomicBool>,
}

/// A member that finishes each batch shortly after it arrives, in reverse order, and abandons records that it
/// has not started when the partition is revoked: as a core does.
fn work(membership: &Membership, finished: &Finished) -> Worker {
    let (membership, finished) = (membership.clone(), Arc::clone(finished));
    let quit = Arc::new(AtomicBool::new(false));
    let quit_requested = Arc::clone(&quit);
    let thread = thread::spawn(move || {
        let member = Member::join(&membership);
        while !quit_requested.load(Ordering::Relaxed) {
            for batch in member.take() {
                if batch.lease().is_ending() {
                    batch.lease().abandon(batch.records().len());
                    continue;
                }
                // Simulates the work, long enough that a rebalance falls into it.
                thread::sleep(Duration::from_millis(5));
                let mut done = offsets(&batch);
                done.reverse();
                for half in done.chunks(done.len().div_ceil(2)) {
                    for &offset in half {
                        *finished
                            .lock()
                            .expect("no panic")
                            .entry((batch.lease().partition(), offset))
                            .or_default() += 1;
                    }
                    batch.lease().finish(half);
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        let ended = member.stop_abandoning();
        assert!(ended.is_clean(), "{ended:?}");
    });
    Worker { thread, quit }
}

impl Worker {
    fn quit(self) {
        self.quit.store(true, Ordering::Relaxed);
        self.thread.join().expect("a member without a failed check");
    }
}

pub(crate) fn check(membership: &Membership) {
    let finished = Finished::default();
    let done = || finished.lock().expect("no panic").len();
    let check_commits = || {
        let committed = committed(membership, PARTITIONS);
        let finished = finished.lock().expect("no panic");
        for (partition, offset) in committed {
            for below in 0..offset {
                assert!(
                    finished.contains_key(&(partition, below)),
                    "{partition}-{below} committed, not finished"
                );
            }
        }
    };
    fill(&membership.bootstrap, &membership.topic, PARTITIONS, RECORDS / 3);
    let first = work(membership, &finished);
    wait_until("a third", WAIT_MAX, || done() >= ALL / 6);
    let second = work(membership, &finished);
    fill(&membership.bootstrap, &membership.topic, PARTITIONS, RECORDS / 3);
    check_commits();
    wait_until("two thirds", WAIT_MAX, || {
        check_commits();
        done() >= ALL / 3 * 2
    });
    fill(&membership.bootstrap, &membership.topic, PARTITIONS, RECORDS / 3);
    first.quit();
    check_commits();
    wait_until("all", WAIT_MAX, || done() >= ALL);
    second.quit();
    let all: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, RECORDS as i64)).collect();
    assert_eq!(committed(membership, PARTITIONS).into_iter().collect::<Vec<_>>(), all);
    // Started records were finished before the partition was revoked, the others were abandoned: no record
    // was processed twice.
    let finished = finished.lock().expect("no panic");
    let twice: Vec<_> = finished.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{} records, such as {:?}", twice.len(), &twice[..twice.len().min(5)]);
}
