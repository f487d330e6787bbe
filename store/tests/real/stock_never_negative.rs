//! Property: however many cores reserve, settle and refund concurrently, stock never goes below zero, no unit
//! is sold twice, and a refunded unit is sold again.
//! Method: three cores with one connection each on one real Redis request more units than there are, and a
//! third of the payments fail; then the sums are checked.

use std::sync::{Arc, Mutex};

use harness::origin;
use store::answer::Ledger;
use store::{Answer, Command, Reservation, Reserve, Settle, Store};
use testkit::redis::Redis;

use crate::harness;

const UNITS: u64 = 500;
const CORES: usize = 3;
const ORDERS_EACH: u64 = 400;

#[test]
fn sold_and_left_add_up() {
    let redis = Arc::new(Redis::start());
    redis.call(&["SET", "inventory:101", &UNITS.to_string()]);
    let paid = Arc::new(Mutex::new(0));
    let cores: Vec<_> = (0..CORES)
        .map(|core| {
            let (redis, paid) = (Arc::clone(&redis), Arc::clone(&paid));
            std::thread::spawn(move || {
                let sold = harness::on_core(async move { buy(core, &redis).await });
                *paid.lock().expect("nobody panics with it") += sold;
            })
        })
        .collect();
    for core in cores {
        core.join().expect("the core does not panic");
    }
    let left = redis.call(&["GET", "inventory:101"]).int().expect("a number");
    let sold = *paid.lock().expect("nobody panics with it");
    assert!(left >= 0, "{left}");
    assert_eq!(sold + left, UNITS as i64);
    assert!(left < 3, "demand exceeded the stock, but {left} units are left");
    let ledger = harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        store.ask(&Command::Ledgers { items: &["101"] }).await
    });
    assert_eq!(ledger, Ok(Answer::Ledgers(vec![Some(Ledger { base: UNITS as i64, taken: sold })])));
}

/// Processes the orders of one core; returns the units paid for.
async fn buy(core: usize, redis: &Redis) -> i64 {
    let store = harness::connect(redis, harness::policy()).await;
    let buyers: Vec<_> = (0..8)
        .map(|buyer| {
            let store = std::rc::Rc::clone(&store);
            monoio::spawn(async move {
                let mut sold = 0;
                for number in 0..ORDERS_EACH / 8 {
                    let id = format!("r{core}-{buyer}-{number}");
                    let amount = (number % 3 + 1) as u32;
                    let request = Reserve {
                        request_id: &id,
                        item_id: "101",
                        accepted_at_ms: harness::NOON_MS,
                        amount,
                        attempt: 0,
                        origin: origin(number as i64),
                    };
                    match store.ask(&Command::Reserve(request)).await {
                        Ok(Answer::Reserved(Reservation::Held { left })) => assert!(left >= 0, "{left}"),
                        Ok(Answer::Reserved(Reservation::SoldOut { left })) => {
                            assert!(left < i64::from(amount));
                            continue;
                        }
                        other => panic!("{other:?}"),
                    }
                    let end = Settle {
                        request_id: &id,
                        item_id: "101",
                        accepted_at_ms: harness::NOON_MS,
                        attempt: 0,
                        origin: origin(number as i64),
                    };
                    let pays = number % 3 != 0;
                    let command = if pays { Command::Settle(end) } else { Command::Refund(end) };
                    let ended = store.ask(&command).await;
                    assert!(
                        matches!(ended, Ok(Answer::Settled(settlement)) if settlement.applied),
                        "{ended:?}"
                    );
                    sold += if pays { i64::from(amount) } else { 0 };
                }
                sold
            })
        })
        .collect();
    let mut sold = 0;
    for buyer in buyers {
        sold += buyer.await;
    }
    sold
}
