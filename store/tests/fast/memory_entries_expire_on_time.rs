//! Property: in the model each entry lives exactly as long as in Redis, expired entries are freed a few at a
//! time by whatever command comes next, and beyond the bound of entries only commands that need a new entry
//! fail.
//! Method: a manual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{NOON_MS, admission_key, reserve, settle};
use store::memory::Memory;
use store::{Admission, Admit, Answer, Command, Confirm, StatusView, StoreError};
use wire::names::Status;

use crate::harness;

const TAKEN_OVER: Admission = Admission::TakenOver { accepted_at_ms: harness::NOON_MS };

struct Clocked {
    clock: Arc<AtomicU64>,
    model: Arc<Memory>,
}

fn clocked(entries_max: usize) -> Clocked {
    let clock = Arc::new(AtomicU64::new(NOON_MS));
    let reading = Arc::clone(&clock);
    Clocked {
        clock,
        model: Memory::with_clock(harness::policy(), entries_max, move || reading.load(Ordering::Relaxed)),
    }
}

impl Clocked {
    fn at(&self, after_noon_ms: u64) {
        self.clock.store(NOON_MS + after_noon_ms, Ordering::Relaxed);
    }

    fn admit(&self, user_id: &str, request_id: &str, sequence: u64) -> Result<Admission, StoreError> {
        let admit = harness::admit(user_id, request_id, sequence);
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
fn an_id_stays_taken_as_long_as_its_status_is_kept() {
    let clocked_model = clocked(100);
    let policy = harness::policy();
    assert_eq!(clocked_model.admit("u", "r", 1), Ok(Admission::Fresh));
    clocked_model.at(policy.order_status_ttl_ms);
    assert_eq!(clocked_model.status("r"), Some(pending()));
    clocked_model.at(policy.order_status_ttl_ms + 1);
    assert_eq!(clocked_model.status("r"), None);
    assert_eq!(clocked_model.admit("u", "r", 3), Ok(Admission::Fresh));
}

#[test]
fn a_takeover_renews_the_status_ttl() {
    let clocked_model = clocked(100);
    let policy = harness::policy();
    assert_eq!(clocked_model.admit("u", "r", 1), Ok(Admission::Fresh));
    clocked_model.at(policy.order_status_ttl_ms);
    assert_eq!(clocked_model.admit("u", "r", 2), Ok(TAKEN_OVER));
    clocked_model.at(2 * policy.order_status_ttl_ms);
    assert_eq!(clocked_model.status("r"), Some(pending()));
    clocked_model.at(2 * policy.order_status_ttl_ms + 1);
    assert_eq!(clocked_model.status("r"), None);
}

#[test]
fn a_watermark_outlives_the_ids_it_covers() {
    let clocked_model = clocked(100);
    let policy = harness::policy();
    assert_eq!(clocked_model.admit("u", "r", 1), Ok(Admission::Fresh));
    clocked_model.model.apply(&Command::Confirm(Confirm { owner: "core0", sequence: 1 })).expect("done");
    clocked_model.at(policy.order_status_ttl_ms);
    assert!(matches!(clocked_model.admit("u", "r", 2), Ok(Admission::Duplicate { .. })));
}

#[test]
fn expired_entries_are_freed_a_few_at_a_time() {
    let clocked_model = clocked(100_000);
    for number in 0..1000_u64 {
        let id = format!("r{number}");
        assert_eq!(clocked_model.admit(&id, &id, number), Ok(Admission::Fresh));
        clocked_model
            .model
            .apply(&Command::Confirm(Confirm { owner: &format!("o{number}"), sequence: 1 }))
            .expect("done");
    }
    clocked_model.model.apply(&Command::SetStock { item_id: "101", units: 1 }).expect("set");
    clocked_model.model.apply(&Command::Reserve(reserve("r7", "101", 1))).expect("held");
    clocked_model.model.apply(&Command::Refund(settle("r7", "101"))).expect("refunded");
    clocked_model.model.apply(&Command::Release(harness::admission_key("r8", "r8", 8))).expect("released");
    assert_eq!(clocked_model.model.entries(), 3001);
    clocked_model.at(2 * harness::policy().order_status_ttl_ms);
    let mut before = clocked_model.model.entries();
    for _ in 0..2000 {
        clocked_model.model.apply(&Command::Ping).expect("done");
        let now = clocked_model.model.entries();
        assert!(before - now <= 6, "{} freed by one command", before - now);
        before = now;
    }
    assert_eq!(before, 1, "only the item does not expire");
}

#[test]
fn beyond_the_bound_only_new_entries_are_refused() {
    let clocked_model = clocked(5);
    clocked_model.model.apply(&Command::SetStock { item_id: "101", units: 9 }).expect("set");
    assert_eq!(clocked_model.admit("u", "a", 1), Ok(Admission::Fresh));
    assert_eq!(clocked_model.admit("u", "b", 2), Ok(Admission::Fresh));
    assert_eq!(
        clocked_model.admit("v", "c", 3),
        Err(StoreError::Full),
        "the order needs two entries, there is room for one"
    );
    assert_eq!(
        clocked_model.model.apply(&Command::Status { request_id: "c" }),
        Ok(Answer::Status(None)),
        "a refused admission leaves nothing behind"
    );
    assert_eq!(clocked_model.admit("u", "c", 3), Ok(Admission::Fresh));
    assert_eq!(clocked_model.model.entries(), 5);
    for command in [
        Command::Claim(harness::claim("d")),
        Command::SetStock { item_id: "102", units: 1 },
        Command::Confirm(Confirm { owner: "core0", sequence: 1 }),
    ] {
        assert_eq!(clocked_model.model.apply(&command), Err(StoreError::Full), "{command:?}");
    }
    for settled in [
        Command::Reserve(reserve("a", "101", 1)),
        Command::Settle(settle("a", "101")),
        Command::Suspend(admission_key("u", "b", 2)),
        Command::SetStock { item_id: "101", units: 1 },
    ] {
        assert!(clocked_model.model.apply(&settled).is_ok(), "{settled:?}");
    }
    clocked_model.at(2 * harness::policy().order_status_ttl_ms);
    for _ in 0..10 {
        clocked_model.model.apply(&Command::Ping).expect("done");
    }
    assert_eq!(clocked_model.admit("v", "c", 3), Ok(Admission::Fresh), "expired entries made room");
}

#[test]
fn a_command_with_a_field_out_of_bounds_is_refused() {
    let clocked_model = clocked(100);
    let ids = vec!["r"; 10_001];
    for command in [
        Command::Admit(Admit { owner: "with blank", ..harness::admit("u", "r", 1) }),
        Command::Admit(Admit { owner: "", ..harness::admit("u", "r", 1) }),
        Command::Reserve(reserve("r", "101", 0)),
        Command::Reserve(reserve("r", "101", 1001)),
        Command::SetStock { item_id: "101", units: 1_000_000_000_001 },
        Command::Statuses { request_ids: &ids },
        Command::Stock { items: &ids[..1025] },
        Command::Ledgers { items: &ids[..1025] },
    ] {
        let answer = clocked_model.model.apply(&command);
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    }
    assert_eq!(clocked_model.model.entries(), 0);
}
