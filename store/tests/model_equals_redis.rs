//! Claim: the model and the scripts give the same answer to every command of every history.
//!
//! Method: random histories over a few users, ids, items and owners (so that they meet), with times that mostly rise
//! and now and then go back or jump, replays, operators who SET, DEL and spoil the inventory, and steps in batches;
//! each goes through the model and through a real Redis, every answer is compared, and at the end all statuses,
//! stocks and ledgers, and that exactly the right keys have a time to live. The seed is printed; `STORE_TEST_SEED`
//! repeats a run.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use store::memory::Memory;
use store::{Admit, Command, Confirm, Origin, Reserve, Retract, Settle, Store};
use testkit::redis::{Redis, Reply};

mod world;

const USERS: [&str; 3] = ["u1", "u-2", "U_3"];
const IDS: [&str; 4] = ["r-1", "r 2", "r:3 é", "%u(.*)"];
const ITEMS: [&str; 2] = ["101", "item_2"];
const OWNERS: [&str; 2] = ["core0e1", "core1e7"];
/// What an operator may have put there; units of a flash sale, and what is not a plain integer.
const TEXTS: [&str; 14] = [
    "0",
    "5",
    "7",
    "-3",
    "12",
    "abc",
    "",
    "1.5",
    "1e3",
    " 4",
    "007",
    "+5",
    "999999999999999",
    "1000000000000000",
];

#[derive(Debug, Clone)]
enum Step {
    Admit {
        user: usize,
        id: usize,
        contents: u64,
        owner: usize,
        later_ms: i64,
    },
    /// `honest`: with the owner and number that took the id last.
    Release {
        user: usize,
        id: usize,
        honest: bool,
    },
    Suspend {
        user: usize,
        id: usize,
        honest: bool,
    },
    /// Everything of that owner but the last so many.
    Confirm {
        owner: usize,
        but: u64,
    },
    Reserve {
        id: usize,
        item: usize,
        amount: u32,
        attempt: u32,
        offset: i64,
    },
    Settle {
        id: usize,
        item: usize,
        attempt: u32,
        offset: i64,
    },
    Refund {
        id: usize,
        item: usize,
        attempt: u32,
        offset: i64,
    },
    Status {
        id: usize,
    },
    Look,
    SetStock {
        item: usize,
        units: u64,
    },
    AddStock {
        item: usize,
        units: u64,
    },
    OperatorSets {
        item: usize,
        text: Option<usize>,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let (user, id, item, owner) = (0..USERS.len(), 0..IDS.len(), 0..ITEMS.len(), 0..OWNERS.len());
    let later_ms =
        prop_oneof![8 => 0_i64..1200, 3 => 1200_i64..6000, 2 => -900_i64..0, 1 => -15_000_i64..15_000];
    let attempt = prop_oneof![5 => Just(0_u32), 3 => Just(1), 1 => Just(2)];
    let end = (id.clone(), item.clone(), attempt.clone(), 0_i64..3);
    let honest = prop::bool::weighted(0.8);
    prop_oneof![
        8 => (user.clone(), id.clone(), prop::bool::weighted(0.1), owner.clone(), later_ms).prop_map(
            |(user, id, other, owner, later_ms)| Step::Admit { user, id, contents: u64::from(other), owner, later_ms }
        ),
        2 => (user.clone(), id.clone(), honest)
            .prop_map(|(user, id, honest)| Step::Release { user, id, honest }),
        2 => (user, id.clone(), honest).prop_map(|(user, id, honest)| Step::Suspend { user, id, honest }),
        2 => (owner, 0_u64..4).prop_map(|(owner, but)| Step::Confirm { owner, but }),
        8 => (id.clone(), item.clone(), 1_u32..4, attempt, 0_i64..3).prop_map(
            |(id, item, amount, attempt, offset)| Step::Reserve { id, item, amount, attempt, offset }
        ),
        4 => end.clone().prop_map(|(id, item, attempt, offset)| Step::Settle { id, item, attempt, offset }),
        4 => end.prop_map(|(id, item, attempt, offset)| Step::Refund { id, item, attempt, offset }),
        1 => id.prop_map(|id| Step::Status { id }),
        1 => Just(Step::Look),
        2 => (item.clone(), 0_u64..9).prop_map(|(item, units)| Step::SetStock { item, units }),
        1 => (item.clone(), 0_u64..9).prop_map(|(item, units)| Step::AddStock { item, units }),
        2 => (item, prop::option::weighted(0.8, 0..TEXTS.len()))
            .prop_map(|(item, text)| Step::OperatorSets { item, text }),
    ]
}

/// What the history so far says: the time, the numbers given out, and who took an id last.
struct Past {
    now_ms: u64,
    sequences: [u64; OWNERS.len()],
    takers: [(usize, usize, u64); IDS.len()],
}

impl Past {
    /// The step as a command; `None` for what an operator does past us.
    fn command(&mut self, step: &Step) -> Option<Command<'static>> {
        Some(match *step {
            Step::Admit { user, id, contents, owner, later_ms } => {
                self.now_ms = self.now_ms.saturating_add_signed(later_ms);
                self.sequences[owner] += 1;
                self.takers[id] = (user, owner, self.sequences[owner]);
                Command::Admit(Admit {
                    user_id: USERS[user],
                    request_id: IDS[id],
                    fingerprint: contents,
                    correlation_id: ["", "c-1", "c 2 with blanks"][(self.now_ms % 3) as usize],
                    owner: OWNERS[owner],
                    sequence: self.sequences[owner],
                    now_ms: Some(self.now_ms),
                })
            }
            Step::Release { user, id, honest } => Command::Release(self.retract(user, id, honest)),
            Step::Suspend { user, id, honest } => Command::Suspend(self.retract(user, id, honest)),
            Step::Confirm { owner, but } => Command::Confirm(Confirm {
                owner: OWNERS[owner],
                sequence: self.sequences[owner].saturating_sub(but),
            }),
            Step::Reserve { id, item, amount, attempt, offset } => Command::Reserve(Reserve {
                request_id: IDS[id],
                item_id: ITEMS[item],
                amount,
                attempt,
                origin: Origin { partition: -1, offset },
            }),
            Step::Settle { id, item, attempt, offset } => Command::Settle(end(id, item, attempt, offset)),
            Step::Refund { id, item, attempt, offset } => Command::Refund(end(id, item, attempt, offset)),
            Step::Status { id } => Command::Status { request_id: IDS[id] },
            Step::Look => Command::Stock { items: &ITEMS },
            Step::SetStock { item, units } => Command::SetStock { item_id: ITEMS[item], units },
            Step::AddStock { item, units } => Command::AddStock { item_id: ITEMS[item], units },
            Step::OperatorSets { .. } => return None,
        })
    }

    fn retract(&self, user: usize, id: usize, honest: bool) -> Retract<'static> {
        let (taker, owner, sequence) = self.takers[id];
        let user = if honest { taker } else { user };
        let sequence = if honest { sequence } else { sequence + 1 };
        Retract { user_id: USERS[user], request_id: IDS[id], owner: OWNERS[owner], sequence }
    }
}

fn end(id: usize, item: usize, attempt: u32, offset: i64) -> Settle<'static> {
    let origin = Origin { partition: -1, offset };
    Settle { request_id: IDS[id], item_id: ITEMS[item], attempt, origin }
}

/// Plays a history to both; the error says where they part.
async fn play(redis: &Redis, history: &[(bool, Step)]) -> Result<(), String> {
    redis.call(&["FLUSHDB"]);
    let model = Memory::new(world::policy(), 1000);
    let real = world::connect(redis, world::policy()).await;
    let mut past = Past { now_ms: world::NOON_MS, sequences: [0; _], takers: [(0, 0, 0); _] };
    let mut at = 0;
    while at < history.len() {
        if let Step::OperatorSets { item, text } = history[at].1 {
            operator_sets(redis, &model, ITEMS[item], text.map(|text| TEXTS[text]));
            at += 1;
            continue;
        }
        // A step that is joined to the one before goes with it in one flush.
        let mut commands = Vec::new();
        while at < history.len() && (commands.is_empty() || history[at].0) {
            let Some(command) = past.command(&history[at].1) else { break };
            commands.push(command);
            at += 1;
        }
        let (by_model, by_redis) = (model.ask_all(&commands).await, real.ask_all(&commands).await);
        for ((command, by_model), by_redis) in commands.iter().zip(by_model).zip(by_redis) {
            if by_model != by_redis {
                return Err(format!("{command:?}\n  model: {by_model:?}\n  redis: {by_redis:?}"));
            }
        }
    }
    for command in [
        Command::Statuses { request_ids: &IDS },
        Command::Stock { items: &ITEMS },
        Command::Ledgers { items: &ITEMS },
        Command::Stock { items: &[] },
        Command::Ledgers { items: &[] },
        Command::Statuses { request_ids: &[] },
        Command::Ping,
    ] {
        let (by_model, by_redis) = (model.ask(&command).await, real.ask(&command).await);
        if by_model != by_redis {
            return Err(format!("at the end {command:?}\n  model: {by_model:?}\n  redis: {by_redis:?}"));
        }
    }
    check_lives(redis)
}

fn operator_sets(redis: &Redis, model: &Arc<Memory>, item_id: &str, text: Option<&str>) {
    model.set_inventory_text(item_id, text).expect("room for two items");
    let key = format!("inventory:{item_id}");
    match text {
        Some(text) => redis.call(&["SET", &key, text]),
        None => redis.call(&["DEL", &key]),
    };
}

/// Stock stays; everything else dies in time.
fn check_lives(redis: &Redis) -> Result<(), String> {
    let Reply::Array(keys) = redis.call(&["KEYS", "*"]) else { panic!("KEYS answers an array") };
    for key in keys {
        let key = key.text().expect("keys are text");
        let stays = key.starts_with("inventory:") || key.starts_with("stock_ledger:");
        let life_ms = redis.call(&["PTTL", &key]).int().expect("a number");
        if stays != (life_ms == -1) {
            return Err(format!("{key} has a life of {life_ms} ms"));
        }
    }
    Ok(())
}

#[test]
fn every_answer_of_every_history() {
    let given = std::env::var("STORE_TEST_SEED").ok();
    let seed =
        given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().expect("STORE_TEST_SEED"));
    println!("STORE_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: 400, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let redis = Arc::new(Redis::start());
    let histories = prop::collection::vec((prop::bool::weighted(0.4), steps()), 1..80);
    let outcome = runner.run(&histories, |history| {
        let redis = Arc::clone(&redis);
        world::on_core(async move { play(&redis, &history).await }).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|failure| panic!("STORE_TEST_SEED={seed}\n{failure}"));
}
