//! Property: a reply that comes after the deadline fails only its command: the caller gets the error at the
//! deadline, the connection stays open, the late reply is discarded, and failed commands still count against
//! `in_flight_max` until then.
//! Method: a real Redis behind a proxy whose delay grows slowly enough that replies never stop coming, up to
//! 800 ms per round trip.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use harness::admit;
use monoio::time::sleep;
use store::redis::{Connection, ConnectionSettings};
use store::{Admission, AdmissionKey, Answer, Command, Store, StoreError, StoreSteps};
use testkit::proxy::Proxy;
use testkit::redis::Redis;

use crate::harness;

/// Interval between two commands, and between two replies while the delay is constant.
const PAUSE: Duration = Duration::from_millis(20);
/// Maximum delay of one direction: a round trip then takes 800 ms, the deadline is 500 ms.
const DELAY_MS: u64 = 400;
/// Increase of the delay of one direction between two commands.
const STEP_MS: u64 = 4;

/// Result of each command and how long it took.
type Results = Rc<RefCell<Vec<(Result<Answer, StoreError>, Duration)>>>;

async fn connect(proxy: &Proxy, in_flight_max: usize) -> Rc<Connection> {
    let settings = ConnectionSettings::new(harness::server(&proxy.addr()), harness::policy(), in_flight_max);
    let store = Connection::open(settings);
    assert!(store.reachable_within(Duration::from_secs(10)).await, "{:?}", store.last_error());
    store
}

/// Sends a command every 20 ms while the delay grows, and for another 600 ms at the full delay.
async fn send_while_delay_grows(store: &Rc<Connection>, proxy: &Proxy) -> Results {
    let results = Results::default();
    for step in 0..DELAY_MS / STEP_MS + 30 {
        proxy.delay_ms((step * STEP_MS).min(DELAY_MS));
        ask(store, &results);
        sleep(PAUSE).await;
    }
    results
}

fn ask(store: &Rc<Connection>, results: &Results) {
    let (store, results) = (Rc::clone(store), Rc::clone(results));
    drop(monoio::spawn(async move {
        let asked = Instant::now();
        let answer = store.ask(&Command::Ping).await;
        results.borrow_mut().push((answer, asked.elapsed()));
    }));
}

async fn wait_until_answered(store: &Connection) {
    let begun = Instant::now();
    while store.stats().queue_depth > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", store.stats());
        sleep(PAUSE).await;
    }
}

#[test]
fn late_replies_do_not_end_the_connection() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    harness::on_core(async move {
        let store = connect(&proxy, 4096).await;
        let results = send_while_delay_grows(&store, &proxy).await;
        // The reply to this admission is late; the release that undoes it follows on the same connection.
        let lost = store.admit(admit("u", "r", 1)).await;
        assert_eq!(lost, Err(StoreError::Lost));
        assert!(store.is_reachable(), "{:?}", store.last_error());
        proxy.delay_ms(0);
        let release = AdmissionKey { user_id: "u", request_id: "r", owner: "core0", sequence: 1 };
        // The proxy keeps the order of bytes, so this waits for all delayed bytes and may itself be late.
        let mut released = store.ask(&Command::Release(release)).await;
        if released == Err(StoreError::Lost) {
            released = store.ask(&Command::Release(release)).await;
        }
        assert!(released.is_ok(), "{released:?}");
        assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(Admission::Fresh), "the id is free");
        wait_until_answered(&store).await;

        let results = results.borrow();
        let (mut on_time, mut late) = (0, 0);
        for (answer, took) in results.iter() {
            match answer {
                Ok(Answer::Done) => on_time += 1,
                Err(StoreError::Lost) => late += 1,
                other => panic!("{other:?} after {took:?}"),
            }
            assert!(*took < Duration::from_secs(1), "{answer:?} after {took:?}");
        }
        assert!(on_time > 20 && late > 20, "{on_time} on time, {late} late");
        let stats = store.stats();
        assert!(stats.late >= late, "{stats:?}");
        assert_eq!(stats.errors, stats.late, "each late command is counted once");
        assert_eq!((stats.reconnects, stats.queue_depth), (0, 0), "{stats:?}");
    });
}

#[test]
fn expired_commands_count_as_in_flight() {
    const IN_FLIGHT_MAX: usize = 30;
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    harness::on_core(async move {
        let store = connect(&proxy, IN_FLIGHT_MAX).await;
        let results = send_while_delay_grows(&store, &proxy).await;
        assert!(store.stats().queue_depth <= IN_FLIGHT_MAX as u64, "{:?}", store.stats());
        proxy.delay_ms(0);
        wait_until_answered(&store).await;
        let count = |wanted: &Result<Answer, StoreError>| {
            results.borrow().iter().filter(|(answer, _)| answer == wanted).count()
        };
        // 800 ms with a command every 20 ms would be 40 commands in flight.
        assert!(count(&Err(StoreError::Full)) > 0, "{:?}", results.borrow());
        assert!(count(&Err(StoreError::Lost)) > 0, "{:?}", results.borrow());
        assert_eq!(count(&Err(StoreError::Unreachable)), 0, "{:?}", results.borrow());
        assert_eq!(store.ask(&Command::Ping).await, Ok(Answer::Done), "there is room again");
        assert_eq!(store.stats().reconnects, 0);
    });
}
