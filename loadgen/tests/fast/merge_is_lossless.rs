//! Property: merging the parts of a run gives the whole run: every count, every histogram, every bucket.
//!
//! Method: random outcomes are recorded twice, once by one generator and once distributed over several. The
//! parts are converted to JSON and back, merged, and must equal the whole exactly. Then two real generators
//! run one sale with `--shard`; the merged report must pass checks that neither part could judge alone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use audit::{Item, Stocking};
use loadgen::Plan;
use loadgen::merge::merge;
use loadgen::workload::Workload;
use proptest::prelude::*;
use report::Measured;
use report::Outcome;
use report::Shard;
use report::series::WIDTH_MS;
use report::{CheckState, Report, Verdict};
use report::{Ended, Record};
use target::{Conduct, Target, check, failed, run};

use crate::target;

const START_UNIX_MS: u64 = 1_700_000_000_000;
const ITEMS: usize = 2;
/// Bucket width after the six minutes of the requests below: shifting the start by a multiple of it shifts
/// buckets exactly.
const WIDEST_MS: u64 = 4 * WIDTH_MS;

/// One request: its generator, its outcome, and its times from the start of the whole run.
#[derive(Debug, Clone)]
struct Request {
    part: usize,
    outcome: Outcome,
    due_ns: u64,
    late_ns: u64,
    waited_ns: u64,
    took_ns: u64,
}

fn request() -> impl Strategy<Value = Request> {
    let outcome = (0..Outcome::ALL.len()).prop_map(|index| Outcome::ALL[index]);
    let took_ns = prop_oneof![0_u64..2_000, 0_u64..50_000_000, 0_u64..130_000_000_000];
    (0_usize..4, outcome, 0_u64..200_000_000_000, 0_u64..1_000_000, 0_u64..10_000_000, took_ns).prop_map(
        |(part, outcome, due_ns, late_ns, waited_ns, took_ns)| Request {
            part,
            outcome,
            due_ns,
            late_ns,
            waited_ns,
            took_ns,
        },
    )
}

/// The record of a generator that started `start_ns` after the first one: sends and completions, each ordered
/// by time.
fn noted(requests: &[&Request], start_ns: u64) -> Record {
    let mut record = Record::new(ITEMS);
    let mut sends = Vec::new();
    let mut ends = Vec::new();
    for request in requests {
        let intended_ns = request.due_ns - start_ns;
        let sent_ns = intended_ns + request.late_ns + request.waited_ns;
        let is_sent = request.outcome != Outcome::Unsent;
        if is_sent {
            sends.push((sent_ns, request.late_ns, request.waited_ns));
        }
        let at_ns = sent_ns + request.took_ns;
        let sent_ns = is_sent.then_some(sent_ns);
        ends.push(Ended { outcome: request.outcome, at_ns, intended_ns, sent_ns, phase: None });
    }
    sends.sort_unstable();
    ends.sort_unstable_by_key(|end| end.at_ns);
    for (sent_ns, late_ns, waited_ns) in sends {
        record.sent(sent_ns, late_ns, waited_ns);
    }
    for end in &ends {
        record.ended(end);
    }
    record
}

fn through_json(measured: &Measured) -> Measured {
    let text = serde_json::to_string(measured).expect("JSON");
    serde_json::from_str(&text).expect("our own JSON")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merged_parts_equal_the_whole(
        requests in proptest::collection::vec(request(), 0..120),
        delays in proptest::collection::vec(0_u64..20, 3),
    ) {
        let whole = Measured::of(&noted(&requests.iter().collect::<Vec<_>>(), 0), START_UNIX_MS);
        prop_assert_eq!(&through_json(&whole), &whole);
        prop_assert_eq!(&Measured::of(&whole.record().expect("our own"), START_UNIX_MS), &whole);

        // Started together: equal.
        let parts: Vec<Measured> = (0..4)
            .map(|part| requests.iter().filter(|request| request.part == part).collect::<Vec<_>>())
            .map(|own| through_json(&Measured::of(&noted(&own, 0), START_UNIX_MS)))
            .collect();
        let joined = Measured::joined(&parts.iter().collect::<Vec<_>>()).expect("parts of ours");
        prop_assert_eq!(&joined, &whole);

        // Started apart by whole buckets: also equal. The first generator starts at 0.
        let delays_ms = [0, delays[0], delays[1], delays[2]].map(|widths| widths * WIDEST_MS);
        let moved: Vec<Request> = requests
            .iter()
            .map(|request| {
                let due_ns = request.due_ns + delays_ms[request.part] * 1_000_000;
                Request { due_ns, ..request.clone() }
            })
            .collect();
        let parts: Vec<Measured> = (0..4)
            .map(|part| {
                let own: Vec<_> = moved.iter().filter(|request| request.part == part).collect();
                let record = noted(&own, delays_ms[part] * 1_000_000);
                let mut measured = Measured::of(&record, START_UNIX_MS + delays_ms[part]);
                measured.reconnects = 1 << part;
                measured.sold_out = vec![1 << part, 1];
                through_json(&measured)
            })
            .collect();
        let joined = Measured::joined(&parts.iter().collect::<Vec<_>>()).expect("parts of ours");
        let mut whole = Measured::of(&noted(&moved.iter().collect::<Vec<_>>(), 0), START_UNIX_MS);
        whole.reconnects = 15;
        whole.sold_out = vec![15, 4];
        prop_assert_eq!(&joined, &whole);
    }
}

/// The reports of `count` generators that run one sale at the same time.
fn shards(target: &Target, plan: &Plan, count: u64) -> Vec<Report> {
    let audit = target.audit();
    std::thread::scope(|scope| {
        let generators: Vec<_> = (0..count)
            .map(|index| {
                let mut plan = plan.clone();
                plan.shard = Shard { index, count };
                if index > 0 {
                    plan.stocking = Stocking::Expect;
                }
                let audit = audit.clone();
                scope.spawn(move || run(&plan, &audit))
            })
            .collect();
        generators.into_iter().map(|generator| generator.join().expect("no panic")).collect()
    })
}

fn plan(target: &Target) -> Plan {
    let mut plan = target.plan();
    plan.items.push(Item { id: "102".to_owned(), stock: 10 });
    plan.hot_share = 0.8;
    plan.duplicates_share = 0.2;
    plan.workers = 2;
    plan
}

#[test]
fn two_shards_merge_into_one_sale() {
    let target =
        Target::start(|_, order| if order.number % 9 == 0 { Conduct::Unpaid } else { Conduct::Honest });
    let plan = plan(&target);
    let requests = Workload::new(&plan).requests();
    let parts = shards(&target, &plan, 2);
    for part in &parts {
        assert_eq!(check(part, "units_add_up").state, CheckState::NotJudged, "{part:#?}");
        assert_eq!(failed(part), [""; 0], "{:#?}", part.checks);
        assert_eq!(part.ledger.as_ref().expect("an audit").orders, 150);
    }

    // Read back from JSON, in the wrong order.
    let read = |part: &Report| serde_json::from_str(&part.json().expect("JSON")).expect("our own JSON");
    let whole = merge(parts.iter().rev().map(read).collect()).expect("both parts of one run");

    assert_eq!(failed(&whole), [""; 0], "{:#?}", whole.checks);
    assert_eq!(whole.verdict, Verdict::Pass);
    assert_eq!(check(&whole, "units_add_up").state, CheckState::Pass);
    for name in ["gateway_metrics_identity", "gateway_counts_agree"] {
        assert_eq!(check(&parts[0], name).state, CheckState::NotJudged);
        assert_eq!(check(&whole, name).state, CheckState::Pass);
    }
    assert_eq!(check(&whole, "audit_complete").value, Some(300.0));
    assert_eq!((whole.requests, whole.plan.requests), (requests, requests));
    assert_eq!(target.received(), requests);
    assert_eq!(whole.outcomes["202"].count, 300);
    let ledger = whole.ledger.as_ref().expect("both were audited");
    assert_eq!((ledger.orders, ledger.acknowledged), (300, 300));
    for item in &ledger.items {
        assert_eq!(item.left, Some(item.seeded - item.sold as i64), "{item:?}");
    }
    let answered: u64 = whole.series.buckets.iter().flat_map(|bucket| bucket.outcomes.values()).sum();
    assert_eq!(answered, requests);
    assert!((whole.asked_rate - plan.rate_per_s as f64).abs() < 1e-6);
}

#[test]
fn only_the_merged_report_finds_an_oversold_unit() {
    let target = Target::start(|memory, order| {
        if order.number == 50 {
            target::add_units_outside_the_ledger(memory, "101", 1);
        }
        Conduct::Honest
    });
    let parts = shards(&target, &target.plan(), 2);
    for part in &parts {
        assert_eq!(failed(part), [""; 0], "{:#?}", part.checks);
    }
    let whole = merge(parts).expect("both parts of one run");
    assert_eq!(failed(&whole), ["no_oversell", "units_add_up"], "{:#?}", whole.checks);
    assert_eq!(whole.verdict, Verdict::LedgerViolated);
}

#[test]
fn the_merged_report_finds_a_wrong_counter() {
    let target =
        Target::start(|_, order| if order.number == 50 { Conduct::Uncounted } else { Conduct::Honest });
    let whole = merge(shards(&target, &target.plan(), 2)).expect("both parts of one run");
    assert_eq!(failed(&whole), ["gateway_metrics_identity", "gateway_counts_agree"], "{:#?}", whole.checks);
}

#[test]
fn units_added_during_the_sale_are_in_the_merged_report() {
    use store::command::Command;
    let target = Target::start(|memory, order| {
        if order.number == 150 {
            memory.apply(&Command::AddStock { item_id: "101", units: 30 }).expect("a known item");
        }
        Conduct::Honest
    });
    let whole = merge(shards(&target, &target.plan(), 2)).expect("both parts of one run");
    assert_eq!(failed(&whole), [""; 0], "{:#?}", whole.checks);
    let item = &whole.ledger.as_ref().expect("an audit").items[0];
    assert_eq!((item.restocked, item.sold, item.left), (30, 130, Some(0)), "{item:?}");
}

#[test]
fn only_parts_of_one_run_are_merged() {
    let target = Target::honest();
    let mut plan = target.plan();
    plan.buyers = 20;
    let parts = shards(&target, &plan, 2);
    let whole = run(&plan, &target.audit());
    let refusal = |parts: Vec<&Report>| {
        merge(parts.into_iter().cloned().collect()).expect_err("not all parts of one run")
    };
    assert_eq!(refusal(vec![]), "there is nothing to merge");
    assert_eq!(refusal(vec![&parts[0]]), "shard 1/2 is missing");
    assert_eq!(refusal(vec![&parts[1]]), "shard 0/2 is missing");
    assert_eq!(refusal(vec![&parts[0], &parts[0]]), "shard 0/2 is given twice");
    assert_eq!(refusal(vec![&parts[0], &whole]), "shard 0/1 does not belong to a run of 2 shards");
    let mut other = parts[1].clone();
    other.run = "another".to_owned();
    assert!(refusal(vec![&parts[0], &other]).contains("are not parts of one run"));
    // Merging a single whole run returns the same report.
    let again = merge(vec![whole.clone()]).expect("a whole run");
    assert_eq!(again.json().expect("JSON"), whole.json().expect("JSON"));
}

#[test]
fn with_an_interrupted_part_nothing_is_judged() {
    let target = Target::honest();
    let mut plan = target.plan();
    plan.shard = Shard { index: 0, count: 1 };
    let interrupt = Arc::new(AtomicBool::new(true));
    let part = loadgen::run(&plan, &target.audit(), loadgen::progress::Quiet, &interrupt).expect("it runs");
    let whole = merge(vec![part]).expect("a whole run");
    assert_eq!(whole.verdict, Verdict::Interrupted);
    assert!(whole.checks.is_empty() && whole.ledger.is_none());
}
