//! Property: however the steps of admissions, releases and suspensions of two gateways interleave on a real Redis, an id is
//! acknowledged at most once, and a user's window has exactly one admission for each taken id of the user, so
//! never more
//! than the limit.
//!
//! Method: many tasks on two connections send random orders of a few users under a few ids and treat each
//! admission as a gateway does: published, certainly not published, possibly published, or its answer is
//! lost, which a release undoes. The seed is printed; `STORE_TEST_SEED` repeats the orders, though not the
//! interleaving.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;

use store::redis::Connection;
use store::{Admission, AdmissionKey, Admit, Answer, Command, Policy, Store, StoreSteps};
use testkit::redis::{Redis, Reply};

use crate::harness;

const USERS: usize = 4;
const IDS: usize = 24;
const TASKS: usize = 16;
const STEPS: usize = 60;
const ROUNDS: u64 = 12;
const OWNERS: [&str; 2] = ["core0", "core1"];

/// Xorshift, to avoid a dependency: the crate needs random numbers nowhere else.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// State shared by all tasks.
#[derive(Default)]
struct Shared {
    sequences: [u64; OWNERS.len()],
    acknowledged: BTreeMap<usize, u32>,
    answers: BTreeMap<&'static str, u32>,
}

/// Neither the window nor a pending id expires within a test.
fn policy() -> Policy {
    Policy { rate_limit_window_ms: 3_600_000, takeover_after_ms: 3_600_000, ..harness::policy() }
}

async fn send_orders(store: Rc<Connection>, owner: usize, mut random: Random, shared: Rc<RefCell<Shared>>) {
    for _ in 0..STEPS {
        let id = random.below(IDS);
        let (user_id, request_id) = (format!("u{}", id % USERS), format!("r{id}"));
        let sequence = {
            let sequences = &mut shared.borrow_mut().sequences;
            sequences[owner] += 1;
            sequences[owner]
        };
        let owner = OWNERS[owner];
        let admit = Admit { owner, ..harness::admit(&user_id, &request_id, sequence) };
        let admission_key = AdmissionKey { owner, ..harness::admission_key(&user_id, &request_id, sequence) };
        if random.below(8) == 0 {
            harness::drop_after_sending(store.admit(admit)).await;
            store.ask(&Command::Release(admission_key)).await.expect("an answer");
            continue;
        }
        let admission = store.admit(admit).await.expect("an answer");
        let name = match admission {
            Admission::Fresh | Admission::TakenOver { .. } => match random.below(3) {
                0 => {
                    *shared.borrow_mut().acknowledged.entry(id).or_default() += 1;
                    "published"
                }
                1 => {
                    let released = store.ask(&Command::Release(admission_key)).await;
                    assert_eq!(released, Ok(Answer::WasHeld(true)));
                    "released"
                }
                _ => {
                    let suspended = store.ask(&Command::Suspend(admission_key)).await;
                    assert_eq!(suspended, Ok(Answer::WasHeld(true)));
                    "suspended"
                }
            },
            Admission::Duplicate { .. } => "duplicate",
            Admission::Limited { .. } => "limited",
            Admission::Mismatch => panic!("all contents are the same"),
        };
        *shared.borrow_mut().answers.entry(name).or_default() += 1;
    }
}

/// Admissions in a user's window (`count.lua`).
fn counted(redis: &Redis, user: usize) -> usize {
    match redis.call(&["GET", &format!("ratelimit:u{user}")]) {
        Reply::Nil => 0,
        Reply::Bulk(value) if value.len() == 7 && value[0] == b'F' => 1,
        Reply::Bulk(value) if value.len() % 12 == 1 && value[0] == b'L' => value.len() / 12,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_window_has_one_admission_per_taken_id() {
    let given = std::env::var("STORE_TEST_SEED").ok();
    let seed = given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().expect("a number"));
    println!("STORE_TEST_SEED={seed}");
    let redis = Rc::new(Redis::start());
    let limit = policy().rate_limit_max_requests as usize;
    harness::on_core(async move {
        let mut answers: BTreeMap<&str, u32> = BTreeMap::new();
        for round in 0..ROUNDS {
            redis.call(&["FLUSHDB"]);
            let shared = Rc::new(RefCell::new(Shared::default()));
            let gateways =
                [harness::connect(&redis, policy()).await, harness::connect(&redis, policy()).await];
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let random = Random((seed ^ (round << 32) ^ (task as u64 + 1)) | 1);
                    let owner = task % OWNERS.len();
                    let store = Rc::clone(&gateways[owner]);
                    monoio::spawn(send_orders(store, owner, random, Rc::clone(&shared)))
                })
                .collect();
            for task in tasks {
                task.await;
            }
            let taken: Vec<bool> = (0..IDS)
                .map(|id| redis.call(&["EXISTS", &format!("order_status:r{id}")]).int() == Some(1))
                .collect();
            let shared = shared.borrow();
            for (id, &times) in &shared.acknowledged {
                assert_eq!(times, 1, "r{id} was acknowledged {times} times");
                assert!(taken[*id], "r{id} was acknowledged and is free");
            }
            for user in 0..USERS {
                let ids = (0..IDS).filter(|id| id % USERS == user && taken[*id]).count();
                assert_eq!(counted(&redis, user), ids, "u{user}, round {round}");
                assert!(ids <= limit, "u{user} has {ids} orders");
            }
            for (name, count) in &shared.answers {
                *answers.entry(name).or_default() += count;
            }
        }
        for name in ["published", "released", "suspended", "duplicate", "limited"] {
            assert!(answers.contains_key(name), "no admission was {name}: {answers:?}");
        }
    });
}
