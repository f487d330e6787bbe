//! Property: for any marks and watermarks, the number and the first of the open dead letters are exact, and
//! agree with the marks read in bulk. Method: random marks and watermarks on a real Redis, compared with a
//! simple count.

use std::time::Duration;

use dead_letters::Marks;
use dead_letters::dead_letter::Position;
use dead_letters::marks::Open;
use proptest::prelude::*;
use queue::admin::Watermarks;
use settings::RedisAddress;
use testkit::redis::Redis;

fn address(redis: &Redis) -> RedisAddress {
    RedisAddress::Server {
        host: "127.0.0.1".to_owned(),
        port: redis.port(),
        user: None,
        password: None,
        db: 0,
    }
}

#[test]
fn counts_equal_a_simple_count() {
    let redis = Redis::start();
    let marks = std::cell::RefCell::new(
        Marks::open(&address(&redis), "dlq", Duration::from_secs(5)).expect("a running Redis"),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let marked = proptest::collection::btree_set(0_i64..90, 0..90);
    runner
        .run(&(marked, 0_i64..80, 0_i64..40), |(marked, low, length)| {
            redis.call(&["FLUSHDB"]);
            let mut marks = marks.borrow_mut();
            let high = low + length;
            let positions: Vec<Position> =
                marked.iter().map(|&offset| Position { partition: 3, offset }).collect();
            marks.settle(&positions, &[]).expect("marked");
            let open: Vec<i64> = (low..high).filter(|offset| !marked.contains(offset)).collect();
            let expected =
                Open { partition: 3, first: open.first().copied().unwrap_or(high), count: open.len() as u64 };
            let found = marks.open_dead_letters(&[Watermarks { partition: 3, low, high }]).expect("counted");
            prop_assert_eq!(found, [expected]);
            let handled = marks.handled([3].into_iter()).expect("read");
            for offset in 0..100 {
                prop_assert_eq!(handled.has(Position { partition: 3, offset }), marked.contains(&offset));
            }
            Ok(())
        })
        .expect("all cases hold");
}

#[test]
fn a_lock_is_held_by_one_run() {
    let redis = Redis::start();
    let open = || Marks::open(&address(&redis), "dlq", Duration::from_secs(5)).expect("a running Redis");
    let (mut one, mut other) = (open(), open());
    assert!(one.lock("one").expect("asked"));
    assert!(one.lock("one").expect("asked"), "the holder renews it");
    assert!(!other.lock("other").expect("asked"));
    other.unlock("other").expect("asked");
    assert!(!other.lock("other").expect("asked"), "only the holder can release it");
    one.unlock("one").expect("asked");
    assert!(other.lock("other").expect("asked"));
}
