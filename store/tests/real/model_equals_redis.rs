//! Claim: the model and the scripts give the same answer to every command of every history.
//!
//! Method: random histories over a few users, ids, items and owners (so that they meet), with times that
//! rise and now and then jump, replays, operators who SET, DEL and spoil the inventory, and
//! steps in batches; each goes through the model and through a real Redis, every answer is compared, and at
//! the end all statuses, stocks and ledgers, and that exactly the right keys have a time to live. That the
//! histories reach every kind of answer is asserted too. The seed is printed; `STORE_TEST_SEED` repeats a
//! run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use store::memory::Memory;
use store::{
    Admission, Admit, Answer, Claim, Command, Confirm, FinalStatus, Origin, Policy, Reservation, Reserve,
    Retract, Settle, Store, StoreError,
};
use testkit::redis::{Redis, Reply};
use wire::names::Status;

use crate::world;
use world::{Aged, Timed};

const USERS: [&str; 2] = ["u1", "U-_2"];
const IDS: [&str; 7] = ["r-1", "r 2", "r:3 é", "%u(.*)", "5", "PENDING", "r-1 "];
/// Ids that are taken once, for a user in a hurry.
static NEW_IDS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..256).map(|number| format!("new-{number}")).collect());
const ITEMS: [&str; 2] = ["101", "item_2"];
const ENDS: [Status; 4] =
    [Status::Completed, Status::FailedSoldOut, Status::FailedPayment, Status::FailedUnknownItem];
const OWNERS: [&str; 2] = ["core0e1", "core1e7"];
/// What an operator may have put there; units of a flash sale, and what is not a plain integer.
const TEXTS: [&str; 20] = [
    "0",
    "5",
    "7",
    "-3",
    "12",
    "20",
    "30",
    "40",
    "50",
    "60",
    "100",
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
        later_ms: u64,
    },
    /// An id that nobody has used.
    AdmitNew {
        user: usize,
        later_ms: u64,
    },
    /// Gives back one of the last four of those.
    ReleaseNew {
        user: usize,
        back: usize,
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
    /// `again`: the very wish that was made last under this id, by whatever record.
    Reserve {
        id: usize,
        wish: Wish,
        again: bool,
    },
    /// `honest`: what was wished last under this id.
    Settle {
        id: usize,
        wish: Wish,
        honest: bool,
    },
    Refund {
        id: usize,
        wish: Wish,
        honest: bool,
    },
    Claim {
        id: usize,
        contents: u64,
    },
    WriteStatus {
        id: usize,
        end: usize,
        attempt: u32,
        contents: u64,
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

#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    item: usize,
    amount: u32,
    attempt: u32,
    offset: i64,
    bucket: u64,
}

impl Wish {
    fn accepted_at_ms(self) -> u64 {
        world::NOON_MS + self.bucket * 10_000
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let (user, id, item, owner) = (0..USERS.len(), 0..IDS.len(), 0..ITEMS.len(), 0..OWNERS.len());
    // Steps are multiples of 500 ms; window and takeover age are offset by 250 ms, so elapsed real time cannot change a result.
    let later_ms = prop_oneof![8 => 0_u64..3, 3 => 3_u64..12, 1 => 0_u64..60].prop_map(half_seconds);
    let contents = prop::bool::weighted(0.1).prop_map(u64::from);
    let attempt = prop_oneof![5 => Just(0_u32), 3 => Just(1), 1 => Just(2)];
    let bucket = prop::bool::weighted(0.1).prop_map(u64::from);
    let wish = (item.clone(), 1_u32..4, attempt.clone(), 0_i64..3, bucket)
        .prop_map(|(item, amount, attempt, offset, bucket)| Wish { item, amount, attempt, offset, bucket });
    let write = (id.clone(), 0..ENDS.len(), attempt, contents.clone());
    let honest = prop::bool::weighted(0.8);
    let end = (id.clone(), wish.clone(), honest);
    prop_oneof![
        8 => (user.clone(), id.clone(), contents.clone(), owner.clone(), later_ms).prop_map(
            |(user, id, contents, owner, later_ms)| Step::Admit { user, id, contents, owner, later_ms }
        ),
        6 => (user.clone(), (0_u64..3).prop_map(half_seconds))
            .prop_map(|(user, later_ms)| Step::AdmitNew { user, later_ms }),
        2 => (user.clone(), 1_usize..5).prop_map(|(user, back)| Step::ReleaseNew { user, back }),
        2 => (user.clone(), id.clone(), honest)
            .prop_map(|(user, id, honest)| Step::Release { user, id, honest }),
        2 => (user, id.clone(), honest).prop_map(|(user, id, honest)| Step::Suspend { user, id, honest }),
        2 => (owner, 0_u64..4).prop_map(|(owner, but)| Step::Confirm { owner, but }),
        8 => (id.clone(), wish, prop::bool::weighted(0.3))
            .prop_map(|(id, wish, again)| Step::Reserve { id, wish, again }),
        3 => end.clone().prop_map(|(id, wish, honest)| Step::Settle { id, wish, honest }),
        4 => end.prop_map(|(id, wish, honest)| Step::Refund { id, wish, honest }),
        1 => (id.clone(), contents).prop_map(|(id, contents)| Step::Claim { id, contents }),
        4 => write.prop_map(|(id, end, attempt, contents)| Step::WriteStatus { id, end, attempt, contents }),
        1 => id.prop_map(|id| Step::Status { id }),
        1 => Just(Step::Look),
        2 => (item.clone(), 0_u64..20).prop_map(|(item, units)| Step::SetStock { item, units }),
        1 => (item.clone(), 0_u64..9).prop_map(|(item, units)| Step::AddStock { item, units }),
        1 => (item, prop::option::weighted(0.8, 0..TEXTS.len()))
            .prop_map(|(item, text)| Step::OperatorSets { item, text }),
    ]
}

fn half_seconds(count: u64) -> u64 {
    count * 500
}

impl Step {
    /// What passes before it.
    fn later_ms(&self) -> u64 {
        match *self {
            Self::Admit { later_ms, .. } | Self::AdmitNew { later_ms, .. } => later_ms,
            _ => 0,
        }
    }
}

/// What the history so far says: the numbers given out, and who took an id last.
struct Past {
    sequences: [u64; OWNERS.len()],
    takers: [(usize, usize, u64); IDS.len()],
    wishes: [Wish; IDS.len()],
    new_ids: usize,
}

impl Past {
    /// The step as a command; `None` for what an operator does past us.
    fn command(&mut self, step: &Step) -> Option<Command<'static>> {
        Some(match *step {
            Step::Admit { user, id, contents, owner, .. } => {
                self.sequences[owner] += 1;
                self.takers[id] = (user, owner, self.sequences[owner]);
                Command::Admit(self.admit(user, IDS[id], contents, owner))
            }
            Step::AdmitNew { user, .. } => {
                self.new_ids += 1;
                let (request_id, sequence) = (&*NEW_IDS[self.new_ids], self.new_ids as u64);
                Command::Admit(Admit { owner: "core2", sequence, ..self.admit(user, request_id, 0, 0) })
            }
            Step::ReleaseNew { user, back } => {
                let at = self.new_ids.saturating_sub(back);
                let (user_id, request_id, sequence) = (USERS[user], &*NEW_IDS[at], at as u64);
                Command::Release(Retract { user_id, request_id, owner: "core2", sequence })
            }
            Step::Release { user, id, honest } => Command::Release(self.retract(user, id, honest)),
            Step::Suspend { user, id, honest } => Command::Suspend(self.retract(user, id, honest)),
            Step::Confirm { owner, but } => Command::Confirm(Confirm {
                owner: OWNERS[owner],
                sequence: self.sequences[owner].saturating_sub(but),
            }),
            Step::Reserve { id, wish, again } => {
                let wish = if again { Wish { offset: wish.offset, ..self.wishes[id] } } else { wish };
                self.wishes[id] = wish;
                Command::Reserve(Reserve {
                    request_id: IDS[id],
                    item_id: ITEMS[wish.item],
                    accepted_at_ms: wish.accepted_at_ms(),
                    amount: wish.amount.max(1),
                    attempt: wish.attempt,
                    origin: Origin { partition: -1, offset: wish.offset },
                })
            }
            Step::Settle { id, wish, honest } => Command::Settle(self.end(id, wish, honest)),
            Step::Refund { id, wish, honest } => Command::Refund(self.end(id, wish, honest)),
            Step::Claim { id, contents } => Command::Claim(Claim {
                request_id: IDS[id],
                fingerprint: contents,
                correlation_id: "of the record",
                accepted_at_ms: world::NOON_MS + 7,
            }),
            Step::WriteStatus { id, end, attempt, contents } => Command::WriteStatus(FinalStatus {
                request_id: IDS[id],
                status: ENDS[end],
                attempt,
                fingerprint: contents,
                correlation_id: "",
                accepted_at_ms: world::NOON_MS + 9,
            }),
            Step::Status { id } => Command::Status { request_id: IDS[id] },
            Step::Look => Command::Stock { items: &ITEMS },
            Step::SetStock { item, units } => Command::SetStock { item_id: ITEMS[item], units },
            Step::AddStock { item, units } => Command::AddStock { item_id: ITEMS[item], units },
            Step::OperatorSets { .. } => return None,
        })
    }

    fn admit(&self, user: usize, request_id: &'static str, fingerprint: u64, owner: usize) -> Admit<'static> {
        Admit {
            user_id: USERS[user],
            request_id,
            fingerprint,
            correlation_id: ["", "c-1", "c 2 with blanks"][(self.sequences[0] % 3) as usize],
            owner: OWNERS[owner],
            sequence: self.sequences[owner],
            accepted_at_ms: world::NOON_MS + self.sequences[owner],
        }
    }

    fn retract(&self, user: usize, id: usize, honest: bool) -> Retract<'static> {
        let (taker, owner, sequence) = self.takers[id];
        let user = if honest { taker } else { user };
        let sequence = if honest { sequence } else { sequence + 1 };
        Retract { user_id: USERS[user], request_id: IDS[id], owner: OWNERS[owner], sequence }
    }

    fn end(&self, id: usize, wish: Wish, honest: bool) -> Settle<'static> {
        let wish = if honest { self.wishes[id] } else { wish };
        Settle {
            request_id: IDS[id],
            item_id: ITEMS[wish.item],
            accepted_at_ms: wish.accepted_at_ms(),
            attempt: wish.attempt,
            origin: Origin { partition: -1, offset: wish.offset },
        }
    }
}

/// How often each kind of answer was given.
type Kinds = Rc<RefCell<BTreeMap<String, u32>>>;

/// The name of the kind, without what it carries but for the words that make another branch of a script.
fn kind(answer: &Answer) -> String {
    let kind = match answer {
        Answer::Admitted(admission) => format!("{admission:?}"),
        Answer::Reserved(Reservation::EndedBefore { status, same_origin, .. }) => {
            format!("EndedBefore/{status}/{same_origin}")
        }
        Answer::Reserved(reservation) => format!("{reservation:?}"),
        Answer::Ended(ending) => format!("Ended/{}/{:?}", ending.applied, ending.status),
        Answer::Claimed(claimed) => format!("Claimed/{claimed:?}"),
        Answer::Retracted(done) => format!("Retracted/{done}"),
        Answer::StockLeft(left) => format!("StockLeft/{}", left.is_some()),
        other => format!("{other:?}"),
    };
    if kind.starts_with("Ended") {
        kind
    } else {
        kind.split([' ', '(']).next().unwrap_or_default().to_owned()
    }
}

/// Every branch that a history must have reached in some case.
const KINDS: [&str; 34] = [
    "Fresh",
    "TakenOver",
    "Duplicate",
    "Mismatch",
    "Limited",
    "Retracted/true",
    "Retracted/false",
    "Done",
    "Held",
    "HeldAlready",
    "SoldOut",
    "UnknownItem",
    "EndedBefore/PENDING/false",
    "EndedBefore/COMPLETED/false",
    "EndedBefore/FAILED_SOLD_OUT/false",
    "EndedBefore/FAILED_PAYMENT/true",
    "EndedBefore/FAILED_PAYMENT/false",
    "EndedBefore/FAILED_UNKNOWN_ITEM/true",
    "EndedBefore/FAILED_UNKNOWN_ITEM/false",
    "Claimed/At",
    "Claimed/Conflict",
    "Ended/true/Some(Completed)",
    "Ended/true/Some(FailedPayment)",
    "Ended/false/None",
    "Ended/false/Some(Pending)",
    "Ended/false/Some(Completed)",
    "Ended/false/Some(FailedPayment)",
    "Ended/false/Some(FailedSoldOut)",
    "Ended/false/Some(FailedUnknownItem)",
    "Status",
    "Stock",
    "StockLeft/true",
    "StockLeft/false",
    "Ledgers",
];

/// Plays a history to both; the error says where they part.
async fn play(redis: &Redis, history: &[(bool, Step)], kinds: &Kinds) -> Result<(), String> {
    redis.call(&["FLUSHDB"]);
    let offset_ms = Arc::new(AtomicU64::new(0));
    let (reading, begun) = (Arc::clone(&offset_ms), Instant::now());
    let model = Memory::with_clock(policy(), 1000, move || {
        world::NOON_MS + begun.elapsed().as_millis() as u64 + reading.load(Ordering::Relaxed)
    });
    let real = Aged::connect(redis, policy()).await;
    let mut past =
        Past { sequences: [0; _], takers: [(0, 0, 0); _], wishes: [Wish::default(); _], new_ids: 0 };
    for item_id in ITEMS {
        operator_sets(redis, &model, item_id, Some("9"));
    }
    let mut at = 0;
    while at < history.len() {
        if let Step::OperatorSets { item, text } = history[at].1 {
            operator_sets(redis, &model, ITEMS[item], text.map(|text| TEXTS[text]));
            at += 1;
            continue;
        }
        let later_ms = history[at].1.later_ms();
        if later_ms > 0 {
            offset_ms.fetch_add(later_ms, Ordering::Relaxed);
            real.advance(later_ms);
        }
        // A step that is joined to the one before goes with it in one flush.
        let mut commands = Vec::new();
        while at < history.len() && (commands.is_empty() || (history[at].0 && history[at].1.later_ms() == 0))
        {
            let Some(command) = past.command(&history[at].1) else { break };
            commands.push(command);
            at += 1;
        }
        let (by_model, by_redis) = (model.ask_all(&commands).await, real.ask_all(&commands).await);
        for answer in by_redis.iter().flatten() {
            *kinds.borrow_mut().entry(kind(answer)).or_default() += 1;
        }
        for ((command, by_model), by_redis) in commands.iter().zip(by_model).zip(by_redis) {
            if !is_same(&by_model, &by_redis) {
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
        *kinds.borrow_mut().entry(by_redis.as_ref().map(kind).unwrap_or_default()).or_default() += 1;
        if by_model != by_redis {
            return Err(format!("at the end {command:?}\n  model: {by_model:?}\n  redis: {by_redis:?}"));
        }
    }
    check_lives(redis)
}

/// The rules; see [`steps`].
fn policy() -> Policy {
    Policy { rate_limit_window_ms: 10_250, takeover_after_ms: 2750, ..world::policy() }
}

/// The two are not asked at the same millisecond.
fn is_same(by_model: &Result<Answer, StoreError>, by_redis: &Result<Answer, StoreError>) -> bool {
    let wait = |answer: &Result<Answer, StoreError>| match answer {
        Ok(Answer::Admitted(Admission::Limited { retry_after_ms })) => Some(*retry_after_ms),
        _ => None,
    };
    match (wait(by_model), wait(by_redis)) {
        (Some(model_ms), Some(redis_ms)) => model_ms.abs_diff(redis_ms) < 250,
        _ => by_model == by_redis,
    }
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
    let rng_seed = RngSeed::Fixed(seed);
    let config = Config {
        cases: 400,
        rng_seed,
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let redis = Arc::new(Redis::start());
    let kinds = Kinds::default();
    let histories = prop::collection::vec((prop::bool::weighted(0.4), steps()), 1..120);
    let outcome = TestRunner::new(config).run(&histories, |history| {
        let (redis, kinds) = (Arc::clone(&redis), Rc::clone(&kinds));
        world::on_core(async move { play(&redis, &history, &kinds).await }).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|failure| panic!("STORE_TEST_SEED={seed}\n{failure}"));
    println!("{:#?}", kinds.borrow());
    for kind in KINDS {
        assert!(kinds.borrow().contains_key(kind), "STORE_TEST_SEED={seed}: no history was answered {kind}");
    }
}
