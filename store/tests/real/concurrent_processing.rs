//! Property: however the steps of two processors interleave on a real Redis, with copies, redeliveries,
//! replays and processors that stop between any two steps, no unit is created or lost, every order has the
//! final status of its fence once all records are processed, and processing them again changes nothing. These
//! are the rules of `model` for units and final statuses.
//!
//! Method: many tasks on two connections take random records of a few orders for little stock and process
//! them as a processor does, but stop at random steps before the answer comes; then each record is processed
//! once more to its final status. The seed is printed; `STORE_TEST_SEED` repeats the records and payments,
//! though not the interleaving.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;

use harness::{final_status, origin, reserve, settle};
use store::redis::Connection;
use store::{Answer, Command, Reservation, Reserve, Settle, Settlement, Store, StoreSteps, fence_bucket};
use testkit::redis::{Redis, call};
use wire::names::Status;

use crate::harness;

const IDS: u64 = 20;
const TASKS: u64 = 12;
const STEPS: usize = 40;
const ROUNDS: u64 = 12;
/// Maximum attempt of the replays of an order.
const ATTEMPT_MAX: u64 = 2;

/// Xorshift, to avoid a dependency: the crate needs random numbers nowhere else.
struct Random(u64);

impl Random {
    /// Mixes the seed (finaliser of splitmix64), so that seeds that differ in a few bits give unrelated
    /// numbers.
    fn new(seed: u64) -> Self {
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A record of an order; copies differ by their offset.
#[derive(Debug, Clone, Copy)]
struct Record {
    id: u64,
    attempt: u64,
    offset: i64,
}

impl Record {
    fn amount(self) -> u32 {
        self.id as u32 % 3 + 1
    }

    /// The payment provider's answer, always the same for an attempt.
    fn is_paid(self, seed: u64) -> bool {
        Random::new(seed ^ (self.id << 20) ^ (self.attempt << 40)).below(2) > 0
    }
}

/// Sends a command; `None` if the processor stopped before the answer.
async fn step(store: &Connection, command: Command<'_>, lives: bool) -> Option<Answer> {
    if lives {
        return Some(store.ask(&command).await.expect("an answer"));
    }
    harness::drop_after_sending(store.ask(&command)).await;
    None
}

/// Processes a record; the processor stops at step `ends_at`.
async fn process(store: &Connection, record: Record, seed: u64, ends_at: u64) -> Option<Status> {
    let (id, attempt) = (format!("r{}", record.id), record.attempt as u32);
    let request = Reserve { attempt, origin: origin(record.offset), ..reserve(&id, "101", record.amount()) };
    let reserved = step(store, Command::Reserve(request), ends_at != 0).await?;
    let Answer::Reserved(reservation) = reserved else { panic!("{reserved:?}") };
    let (status, attempt) = match reservation {
        Reservation::Held { .. } | Reservation::HeldAlready => {
            let end = Settle { attempt, origin: origin(record.offset), ..settle(&id, "101") };
            let is_paid = record.is_paid(seed);
            let end = if is_paid { Command::Settle(end) } else { Command::Refund(end) };
            match step(store, end, ends_at != 1).await? {
                Answer::Settled(Settlement { applied: true, status: Some(status), .. }) => (status, attempt),
                Answer::Settled(Settlement { status: Some(status), attempt, .. }) => (status, attempt),
                other => panic!("{other:?}"),
            }
        }
        Reservation::SoldOut { .. } => (Status::FailedSoldOut, attempt),
        Reservation::AlreadyFinal { status, attempt, .. } => (status, attempt),
        Reservation::UnknownItem => panic!("the stock is known"),
    };
    if status.is_final() {
        step(store, Command::WriteStatus(final_status(&id, status, attempt)), ends_at != 2).await?;
    }
    Some(status)
}

/// Processes random records, and replays only failed orders.
async fn work(store: Rc<Connection>, mut random: Random, seed: u64) {
    for _ in 0..STEPS {
        let id = random.below(IDS);
        let view = store.status(&format!("r{id}")).await.expect("an answer");
        let has_failed = view.is_some_and(|view| view.status == Status::FailedPayment);
        let attempt = if has_failed { random.below(ATTEMPT_MAX + 1) } else { 0 };
        let record = Record { id, attempt, offset: random.below(3) as i64 };
        process(&store, record, seed, random.below(12)).await;
    }
}

async fn statuses(store: &Connection) -> Vec<Option<Status>> {
    let ids: Vec<String> = (0..IDS).map(|id| format!("r{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    match store.ask(&Command::Statuses { request_ids: &ids }).await {
        Ok(Answer::Statuses(statuses)) => statuses,
        other => panic!("{other:?}"),
    }
}

/// Processes every record once more, to its final status. Also starts the replays that have not been started.
async fn redeliver(store: &Connection, seed: u64) -> Vec<Option<Status>> {
    for attempt in 0..=ATTEMPT_MAX {
        for id in 0..IDS {
            process(store, Record { id, attempt, offset: 0 }, seed, u64::MAX).await;
        }
    }
    statuses(store).await
}

fn fence(addr: &str, id: u64) -> String {
    let bucket = format!("fence:{{inventory:101}}:{}", fence_bucket(harness::NOON_MS));
    call(addr, &["HGET", &bucket, &format!("r{id}")]).text().expect("a fence")
}

#[test]
fn units_and_final_statuses_add_up() {
    let given = std::env::var("STORE_TEST_SEED").ok();
    let seed = given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().expect("a number"));
    println!("STORE_TEST_SEED={seed}");
    let redis = Redis::start();
    harness::on_core(async move {
        let mut seen: BTreeMap<Status, u32> = BTreeMap::new();
        for round in 0..ROUNDS {
            redis.call(&["FLUSHDB"]);
            let seed = seed ^ round;
            let processors = [
                harness::connect(&redis, harness::policy()).await,
                harness::connect(&redis, harness::policy()).await,
            ];
            let stock = 5 + seed % 30;
            processors[0].ask(&Command::SetStock { item_id: "101", units: stock }).await.expect("set");
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let random = Random::new(seed ^ (round << 32) ^ ((task + 1) << 8));
                    monoio::spawn(work(Rc::clone(&processors[(task % 2) as usize]), random, seed))
                })
                .collect();
            for task in tasks {
                task.await;
            }
            let ended = redeliver(&processors[0], seed).await;
            assert_eq!(redeliver(&processors[1], seed).await, ended, "round {round}: processed again");
            let mut sold = 0;
            for (id, status) in (0..IDS).zip(&ended) {
                let status = status.unwrap_or_else(|| panic!("round {round}: r{id} has no status"));
                let expected = match fence(&redis.addr(), id).as_bytes()[0] {
                    b'C' => Status::Completed,
                    b'S' => Status::FailedSoldOut,
                    b'R' => Status::FailedPayment,
                    other => panic!("round {round}: fence {} of r{id}", char::from(other)),
                };
                assert_eq!(status, expected, "round {round}: r{id}");
                if status == Status::Completed {
                    sold += i64::from(Record { id, attempt: 0, offset: 0 }.amount());
                }
                *seen.entry(status).or_default() += 1;
            }
            let left = redis.call(&["GET", "inventory:101"]).int().expect("units");
            let taken = redis.call(&["HGET", "stock_ledger:{inventory:101}", "taken"]).int().unwrap_or(0);
            assert_eq!((left + sold, taken), (stock as i64, sold), "round {round}");
        }
        println!("{seen:?}");
        for status in [Status::Completed, Status::FailedSoldOut, Status::FailedPayment] {
            assert!(seen.contains_key(&status), "no order was {status}");
        }
    });
}
