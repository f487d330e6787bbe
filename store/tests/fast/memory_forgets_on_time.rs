//! Claim: in the model each entry lives exactly as long as in Redis, dead ones are freed a few at a time
//! without anybody asking for them, and over the bound of entries a newcomer is refused and nobody else.
//! Method: a clock of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::memory::Memory;
use store::{Admission, Admit, Answer, Command, Confirm, StatusView, StoreError};
use wire::names::Status;
use world::{NOON_MS, reserve, retract, settle};

use crate::world;

const TAKEN_OVER: Admission = Admission::TakenOver { accepted_at_ms: world::NOON_MS };

struct Clocked {
    clock: Arc<AtomicU64>,
    model: Arc<Memory>,
}

fn clocked(entries_max: usize) -> Clocked {
    let clock = Arc::new(AtomicU64::new(NOON_MS));
    let reading = Arc::clone(&clock);
    Clocked {
        clock,
        model: Memory::with_clock(world::policy(), entries_max, move || reading.load(Ordering::Relaxed)),
    }
}

impl Clocked {
    fn at(&self, after_noon_ms: u64) {
        self.clock.store(NOON_MS + after_noon_ms, Ordering::Relaxed);
    }

    fn admit(&self, user_id: &str, request_id: &str, sequence: u64) -> Result<Admission, StoreError> {
        let admit = world::admit(user_id, request_id, sequence);
        match self.model.apply(&Command::Admit(admit))? {
            Answer::Admitted(admission) => Ok(admission),
            other => panic!("{other:?}"),
        }
    }

    fn status(&self, request_id: &str) -> Option<StatusView> {
        match self.model.apply(&Command::Status { request_id }) {
            Ok(Answer::Status(view)) => view,
            other => panic!("{other:?}"),
        }
    }
}

fn pending() -> StatusView {
    StatusView { status: Status::Pending, correlation_id: Some("c-1".to_owned()) }
}

#[test]
fn an_id_is_taken_as_long_as_its_status_is_kept() {
    let world = clocked(100);
    let policy = world::policy();
    assert_eq!(world.admit("u", "r", 1), Ok(Admission::Fresh));
    world.at(policy.order_status_ttl_ms);
    assert_eq!(world.status("r"), Some(pending()));
    world.at(policy.order_status_ttl_ms + 1);
    assert_eq!(world.status("r"), None);
    assert_eq!(world.admit("u", "r", 3), Ok(Admission::Fresh));
}

#[test]
fn a_take_over_prolongs_it() {
    let world = clocked(100);
    let policy = world::policy();
    assert_eq!(world.admit("u", "r", 1), Ok(Admission::Fresh));
    world.at(policy.order_status_ttl_ms);
    assert_eq!(world.admit("u", "r", 2), Ok(TAKEN_OVER));
    world.at(2 * policy.order_status_ttl_ms);
    assert_eq!(world.status("r"), Some(pending()));
    world.at(2 * policy.order_status_ttl_ms + 1);
    assert_eq!(world.status("r"), None);
}

#[test]
fn a_watermark_outlives_what_it_covers() {
    let world = clocked(100);
    let policy = world::policy();
    assert_eq!(world.admit("u", "r", 1), Ok(Admission::Fresh));
    world.model.apply(&Command::Confirm(Confirm { owner: "core0", sequence: 1 })).expect("done");
    world.at(policy.order_status_ttl_ms);
    assert!(matches!(world.admit("u", "r", 2), Ok(Admission::Duplicate { .. })));
}

#[test]
fn the_dead_are_freed_a_few_at_a_time() {
    let world = clocked(100_000);
    for number in 0..1000_u64 {
        let id = format!("r{number}");
        assert_eq!(world.admit(&id, &id, number), Ok(Admission::Fresh));
        world
            .model
            .apply(&Command::Confirm(Confirm { owner: &format!("o{number}"), sequence: 1 }))
            .expect("done");
    }
    world.model.apply(&Command::SetStock { item_id: "101", units: 1 }).expect("set");
    world.model.apply(&Command::Reserve(reserve("r7", "101", 1))).expect("held");
    world.model.apply(&Command::Refund(settle("r7", "101"))).expect("refunded");
    world.model.apply(&Command::Release(world::retract("r8", "r8", 8))).expect("released");
    assert_eq!(world.model.entries(), 3001);
    world.at(2 * world::policy().order_status_ttl_ms);
    let mut before = world.model.entries();
    for _ in 0..2000 {
        world.model.apply(&Command::Ping).expect("done");
        let now = world.model.entries();
        assert!(before - now <= 6, "{} freed by one command", before - now);
        before = now;
    }
    assert_eq!(before, 1, "only the item stays");
}

#[test]
fn over_the_bound_only_newcomers_are_refused() {
    let world = clocked(5);
    world.model.apply(&Command::SetStock { item_id: "101", units: 9 }).expect("set");
    assert_eq!(world.admit("u", "a", 1), Ok(Admission::Fresh));
    assert_eq!(world.admit("u", "b", 2), Ok(Admission::Fresh));
    assert_eq!(
        world.admit("v", "c", 3),
        Err(StoreError::Full),
        "it takes two entries, there is room for one"
    );
    assert_eq!(
        world.model.apply(&Command::Status { request_id: "c" }),
        Ok(Answer::Status(None)),
        "nothing half-way"
    );
    assert_eq!(world.admit("u", "c", 3), Ok(Admission::Fresh));
    assert_eq!(world.model.entries(), 5);
    for newcomer in [
        Command::Claim(world::claim("d")),
        Command::SetStock { item_id: "102", units: 1 },
        Command::Confirm(Confirm { owner: "core0", sequence: 1 }),
    ] {
        assert_eq!(world.model.apply(&newcomer), Err(StoreError::Full), "{newcomer:?}");
    }
    for settled in [
        Command::Reserve(reserve("a", "101", 1)),
        Command::Settle(settle("a", "101")),
        Command::Suspend(retract("u", "b", 2)),
        Command::SetStock { item_id: "101", units: 1 },
    ] {
        assert!(world.model.apply(&settled).is_ok(), "{settled:?}");
    }
    world.at(2 * world::policy().order_status_ttl_ms);
    for _ in 0..10 {
        world.model.apply(&Command::Ping).expect("done");
    }
    assert_eq!(world.admit("v", "c", 3), Ok(Admission::Fresh), "the dead made room");
}

#[test]
fn a_command_out_of_its_bounds_is_refused() {
    let world = clocked(100);
    let ids = vec!["r"; 10_001];
    for command in [
        Command::Admit(Admit { owner: "with blank", ..world::admit("u", "r", 1) }),
        Command::Admit(Admit { owner: "", ..world::admit("u", "r", 1) }),
        Command::Reserve(reserve("r", "101", 0)),
        Command::Reserve(reserve("r", "101", 1001)),
        Command::SetStock { item_id: "101", units: 1_000_000_000_001 },
        Command::Statuses { request_ids: &ids },
        Command::Stock { items: &ids[..1025] },
        Command::Ledgers { items: &ids[..1025] },
    ] {
        let answer = world.model.apply(&command);
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    }
    assert_eq!(world.model.entries(), 0);
}
