//! Property: the model and the scripts give the same answer to every command of every history.
//!
//! Method: random histories over a few users, ids, items and owners (so that they collide), with times that
//! increase and now and then jump, replays, operators who SET, DEL and corrupt the inventory, and commands in
//! batches. Each history runs through the model and through a real Redis. Every answer is compared, and at
//! the end all statuses, stocks and ledgers, and that exactly the right keys have a time to live. The test
//! also asserts that the histories reach every kind of answer. The seed is printed; `STORE_TEST_SEED` repeats
//! a run.

use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use store::memory::Memory;
use store::{
    Admission, AdmissionKey, Admit, Answer, Claim, Command, Confirm, FinalStatus, Origin, Policy, Reserve,
    Settle, Store, StoreError,
};
use testkit::redis::{Redis, Reply};
use wire::names::Status;

use crate::harness;
use harness::{Aged, Timed};

use answer_kinds::{KINDS, Kinds, kind};

mod answer_kinds;

const USERS: [&str; 2] = ["u1", "U-_2"];
const IDS: [&str; 7] = ["r-1", "r 2", "r:3 é", "%u(.*)", "5", "PENDING", "r-1 "];
/// Ids that are each taken once, for a user who sends many orders.
static NEW_IDS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..256).map(|number| format!("new-{number}")).collect());
const ITEMS: [&str; 2] = ["101", "item_2"];
const ENDS: [Status; 4] =
    [Status::Completed, Status::FailedSoldOut, Status::FailedPayment, Status::FailedUnknownItem];
const OWNERS: [&str; 2] = ["core0e1", "core1e7"];
/// Texts that an operator may have set: units of a flash sale, and texts that are not a plain integer.
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
    /// Admits an id that was not used before.
    AdmitNew {
        user: usize,
        later_ms: u64,
    },
    /// Releases one of the last four of those.
    ReleaseNew {
        user: usize,
        back: usize,
    },
    /// `honest`: with the owner and sequence that took the id last.
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
    /// Confirms all admissions of the owner but the last `but`.
    Confirm {
        owner: usize,
        but: u64,
    },
    /// `again`: repeats the last reservation of this id, with another record.
    Reserve {
        id: usize,
        request: Request,
        again: bool,
    },
    /// `honest`: matches the last reservation of this id.
    Settle {
        id: usize,
        request: Request,
        honest: bool,
    },
    Refund {
        id: usize,
        request: Request,
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
    ReadStock,
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
struct Request {
    item: usize,
    amount: u32,
    attempt: u32,
    offset: i64,
    bucket: u64,
}

impl Request {
    fn accepted_at_ms(self) -> u64 {
        harness::NOON_MS + self.bucket * 10_000
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let (user, id, item, owner) = (0..USERS.len(), 0..IDS.len(), 0..ITEMS.len(), 0..OWNERS.len());
    // Steps are multiples of 500 ms; window and takeover age are offset by 250 ms, so elapsed real time cannot change a result.
    let later_ms = prop_oneof![8 => 0_u64..3, 3 => 3_u64..12, 1 => 0_u64..60].prop_map(half_seconds);
    let contents = prop::bool::weighted(0.1).prop_map(u64::from);
    let attempt = prop_oneof![5 => Just(0_u32), 3 => Just(1), 1 => Just(2)];
    let bucket = prop::bool::weighted(0.1).prop_map(u64::from);
    let request = (item.clone(), 1_u32..4, attempt.clone(), 0_i64..3, bucket).prop_map(
        |(item, amount, attempt, offset, bucket)| Request { item, amount, attempt, offset, bucket },
    );
    let write = (id.clone(), 0..ENDS.len(), attempt, contents.clone());
    let honest = prop::bool::weighted(0.8);
    let end = (id.clone(), request.clone(), honest);
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
        8 => (id.clone(), request, prop::bool::weighted(0.3))
            .prop_map(|(id, request, again)| Step::Reserve { id, request, again }),
        3 => end.clone().prop_map(|(id, request, honest)| Step::Settle { id, request, honest }),
        4 => end.prop_map(|(id, request, honest)| Step::Refund { id, request, honest }),
        1 => (id.clone(), contents).prop_map(|(id, contents)| Step::Claim { id, contents }),
        4 => write.prop_map(|(id, end, attempt, contents)| Step::WriteStatus { id, end, attempt, contents }),
        1 => id.prop_map(|id| Step::Status { id }),
        1 => Just(Step::ReadStock),
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
    /// Time that passes before the step.
    fn later_ms(&self) -> u64 {
        match *self {
            Self::Admit { later_ms, .. } | Self::AdmitNew { later_ms, .. } => later_ms,
            _ => 0,
        }
    }
}

/// State of the history so far: the sequences used, and who took each id last.
struct Past {
    sequences: [u64; OWNERS.len()],
    takers: [(usize, usize, u64); IDS.len()],
    requests: [Request; IDS.len()],
    new_ids: usize,
}

impl Past {
    /// The step as a command; `None` for an operator's direct change.
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
                Command::Release(AdmissionKey { user_id, request_id, owner: "core2", sequence })
            }
            Step::Release { user, id, honest } => Command::Release(self.admission_key(user, id, honest)),
            Step::Suspend { user, id, honest } => Command::Suspend(self.admission_key(user, id, honest)),
            Step::Confirm { owner, but } => Command::Confirm(Confirm {
                owner: OWNERS[owner],
                sequence: self.sequences[owner].saturating_sub(but),
            }),
            Step::Reserve { id, request, again } => {
                let request =
                    if again { Request { offset: request.offset, ..self.requests[id] } } else { request };
                self.requests[id] = request;
                Command::Reserve(Reserve {
                    request_id: IDS[id],
                    item_id: ITEMS[request.item],
                    accepted_at_ms: request.accepted_at_ms(),
                    amount: request.amount.max(1),
                    attempt: request.attempt,
                    origin: Origin { partition: -1, offset: request.offset },
                })
            }
            Step::Settle { id, request, honest } => Command::Settle(self.end(id, request, honest)),
            Step::Refund { id, request, honest } => Command::Refund(self.end(id, request, honest)),
            Step::Claim { id, contents } => Command::Claim(Claim {
                request_id: IDS[id],
                fingerprint: contents,
                correlation_id: "of the record",
                accepted_at_ms: harness::NOON_MS + 7,
            }),
            Step::WriteStatus { id, end, attempt, contents } => Command::WriteStatus(FinalStatus {
                request_id: IDS[id],
                status: ENDS[end],
                attempt,
                fingerprint: contents,
                correlation_id: "",
                accepted_at_ms: harness::NOON_MS + 9,
            }),
            Step::Status { id } => Command::Status { request_id: IDS[id] },
            Step::ReadStock => Command::Stock { items: &ITEMS },
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
            accepted_at_ms: harness::NOON_MS + self.sequences[owner],
        }
    }

    fn admission_key(&self, user: usize, id: usize, honest: bool) -> AdmissionKey<'static> {
        let (taker, owner, sequence) = self.takers[id];
        let user = if honest { taker } else { user };
        let sequence = if honest { sequence } else { sequence + 1 };
        AdmissionKey { user_id: USERS[user], request_id: IDS[id], owner: OWNERS[owner], sequence }
    }

    fn end(&self, id: usize, request: Request, honest: bool) -> Settle<'static> {
        let request = if honest { self.requests[id] } else { request };
        Settle {
            request_id: IDS[id],
            item_id: ITEMS[request.item],
            accepted_at_ms: request.accepted_at_ms(),
            attempt: request.attempt,
            origin: Origin { partition: -1, offset: request.offset },
        }
    }
}

/// Runs a history through both; the error names the first difference.
async fn run_history(redis: &Redis, history: &[(bool, Step)], kinds: &Kinds) -> Result<(), String> {
    redis.call(&["FLUSHDB"]);
    let offset_ms = Arc::new(AtomicU64::new(0));
    let (reading, begun) = (Arc::clone(&offset_ms), Instant::now());
    let model = Memory::with_clock(policy(), 1000, move || {
        harness::NOON_MS + begun.elapsed().as_millis() as u64 + reading.load(Ordering::Relaxed)
    });
    let real = Aged::connect(redis, policy()).await;
    let mut past =
        Past { sequences: [0; _], takers: [(0, 0, 0); _], requests: [Request::default(); _], new_ids: 0 };
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
        // A step that is joined to the previous one is sent with it in one flush.
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
    check_ttls(redis)
}

/// The policy; see [`steps`].
fn policy() -> Policy {
    Policy { rate_limit_window_ms: 10_250, takeover_after_ms: 2750, ..harness::policy() }
}

/// Compares two answers. Waiting times may differ, because the two stores do not execute a command in the
/// same millisecond.
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

/// Checks that stock and ledgers do not expire and that everything else does.
fn check_ttls(redis: &Redis) -> Result<(), String> {
    let Reply::Array(keys) = redis.call(&["KEYS", "*"]) else { panic!("KEYS answers an array") };
    for key in keys {
        let key = key.text().expect("keys are text");
        let stays = key.starts_with("inventory:") || key.starts_with("stock_ledger:");
        let ttl_ms = redis.call(&["PTTL", &key]).int().expect("a number");
        if stays != (ttl_ms == -1) {
            return Err(format!("{key} has a TTL of {ttl_ms} ms"));
        }
    }
    Ok(())
}

#[test]
fn model_and_redis_give_the_same_answers() {
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
        harness::on_core(async move { run_history(&redis, &history, &kinds).await })
            .map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|failure| panic!("STORE_TEST_SEED={seed}\n{failure}"));
    println!("{:#?}", kinds.borrow());
    for kind in KINDS {
        assert!(kinds.borrow().contains_key(kind), "STORE_TEST_SEED={seed}: no history was answered {kind}");
    }
}
