//! Property: the plan fixes arrival times and orders before the run: every order once, every repeat once and
//! after the first send, times ascending and at the target rate.
//!
//! Method: random plans; the requests are generated twice and compared, and their times are checked against
//! the rate.

use std::collections::HashSet;
use std::sync::Arc;

use audit::Item;
use loadgen::schedule::Schedule;
use loadgen::sends::{SendKind, Sends};
use loadgen::workload::Workload;
use loadgen::{Arrivals, Plan};
use proptest::prelude::*;

fn plan(buyers: u64, rate_per_s: u64, poisson: bool, duplicates_share: f64, seed: u64) -> Plan {
    let mut plan = Plan::new(([127, 0, 0, 1], 1).into());
    plan.run_id.replace_range(.., "r");
    plan.buyers = buyers;
    plan.rate_per_s = rate_per_s;
    plan.arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Uniform };
    plan.duplicates_share = duplicates_share;
    plan.seed = seed;
    plan.items = (0..4).map(|item| Item { id: format!("i{item}"), stock: 1 }).collect();
    plan.hot_share = 0.5;
    plan.amount_max = 3;
    plan
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_order_arrives_once(
        buyers in 1_u64..3_000,
        rate_per_s in 1_u64..2_000_000,
        poisson: bool,
        duplicates_share in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        seed: u64,
    ) {
        let plan = plan(buyers, rate_per_s, poisson, duplicates_share, seed);
        let workload = Arc::new(Workload::new(&plan));
        let sends: Vec<_> = Sends::new(&plan, Arc::clone(&workload)).collect();
        prop_assert_eq!(sends.len() as u64, workload.requests());
        prop_assert_eq!(&sends, &Sends::new(&plan, Arc::clone(&workload)).collect::<Vec<_>>());
        prop_assert!(sends.is_sorted_by_key(|send| send.at_ns));

        let mut firsts = HashSet::new();
        let mut repeats = HashSet::new();
        for send in &sends {
            if let SendKind::Repeat(repeat) = send.kind {
                prop_assert!(firsts.contains(&send.sequence), "a repeat comes after the first send");
                prop_assert_eq!(workload.repeat(send.sequence), Some(repeat));
                prop_assert!(repeats.insert(send.sequence), "an order is repeated once");
            } else {
                prop_assert!(firsts.insert(send.sequence), "an order arrives once");
            }
        }
        prop_assert_eq!(firsts.len() as u64, buyers);
        for sequence in 0..buyers {
            let want = workload.want(sequence);
            prop_assert!(want.item < 4 && (1..=3).contains(&want.amount));
        }
    }

    #[test]
    fn uniform_arrivals_are_exact(rate_per_s in 1_u64..10_000_000, seconds in 1_usize..3) {
        let count = rate_per_s.min(5_000) as usize * seconds;
        for (slot, at_ns) in Schedule::new(Arrivals::Uniform, rate_per_s, 1).take(count).enumerate() {
            let exact = slot as u128 * 1_000_000_000 / u128::from(rate_per_s);
            prop_assert_eq!(u128::from(at_ns), exact);
        }
    }

    #[test]
    fn poisson_arrivals_keep_rate_and_spread(rate_per_s in 10_u64..1_000_000, seed: u64) {
        const COUNT: usize = 20_000;
        let times: Vec<u64> = Schedule::new(Arrivals::Poisson, rate_per_s, seed).take(COUNT).collect();
        let mean_ns = *times.last().expect("times") as f64 / COUNT as f64;
        let asked_ns = 1e9 / rate_per_s as f64;
        // Of 20,000 exponential gaps the mean is within 0.7 % (one sigma): 5 % is seven of them.
        prop_assert!((mean_ns / asked_ns - 1.0).abs() < 0.05, "{mean_ns} ns for {asked_ns} ns");
        // A gap is longer than the mean with probability 1/e.
        let long = times.windows(2).filter(|pair| (pair[1] - pair[0]) as f64 > asked_ns).count() as f64;
        prop_assert!((long / COUNT as f64 - (-1.0_f64).exp()).abs() < 0.03);
    }
}

#[test]
fn shares_are_kept() {
    let plan = plan(100_000, 1_000, false, 0.25, 7);
    let workload = Workload::new(&plan);
    let repeats = (workload.requests() - 100_000) as f64;
    assert!((repeats / 100_000.0 - 0.25).abs() < 0.01, "{repeats}");
    let hot = (0..100_000).filter(|&sequence| workload.want(sequence).item == 0).count() as f64;
    assert!((hot / 100_000.0 - 0.5).abs() < 0.01, "{hot}");
}
