//! Claim: a reply that comes later than the deadline costs its command and nothing else: the caller is told at the
//! deadline, the connection stays, what comes late is discarded, and commands given up still count against
//! `in_flight_max`. Method: a real Redis behind a proxy whose delay grows slowly enough that replies never stop
//! coming, up to 800 ms for a round trip.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::time::sleep;
use store::redis::{Connection, ConnectionSettings};
use store::{Admission, Answer, Command, Retract, Store, StoreError, StoreSteps};
use testkit::proxy::Proxy;
use testkit::redis::Redis;
use world::admit;

use crate::world;

/// Between two commands, and between two replies as long as the delay is constant.
const PAUSE: Duration = Duration::from_millis(20);
/// Of one direction, at most: a round trip then takes 800 ms, the deadline is 500 ms.
const DELAY_MS: u64 = 400;
/// What the delay of one direction grows by between two commands.
const STEP_MS: u64 = 4;

/// How each command ended and how long that took.
type Ends = Rc<RefCell<Vec<(Result<Answer, StoreError>, Duration)>>>;

async fn connect(wire: &Proxy, in_flight_max: usize) -> Rc<Connection> {
    let settings = ConnectionSettings::new(world::server(&wire.addr()), world::policy(), in_flight_max);
    let store = Connection::open(settings);
    assert!(store.reachable_within(Duration::from_secs(10)).await, "{:?}", store.trouble());
    store
}

/// Asks every 20 ms while the delay grows, and for another 600 ms at the full delay.
async fn ask_while_it_slows_down(store: &Rc<Connection>, wire: &Proxy) -> Ends {
    let ends = Ends::default();
    for step in 0..DELAY_MS / STEP_MS + 30 {
        wire.delay_ms((step * STEP_MS).min(DELAY_MS));
        ask(store, &ends);
        sleep(PAUSE).await;
    }
    ends
}

fn ask(store: &Rc<Connection>, ends: &Ends) {
    let (store, ends) = (Rc::clone(store), Rc::clone(ends));
    drop(monoio::spawn(async move {
        let asked = Instant::now();
        let answer = store.ask(&Command::Ping).await;
        ends.borrow_mut().push((answer, asked.elapsed()));
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
    let wire = Proxy::start(&redis.addr());
    world::on_core(async move {
        let store = connect(&wire, 4096).await;
        let ends = ask_while_it_slows_down(&store, &wire).await;
        // Its reply is late; what undoes it goes behind it over the same connection.
        let lost = store.admit(admit("u", "r", 1)).await;
        assert_eq!(lost, Err(StoreError::Lost));
        assert!(store.is_reachable(), "{:?}", store.trouble());
        wire.delay_ms(0);
        let release = Retract { user_id: "u", request_id: "r", owner: "core0", sequence: 1 };
        // The proxy keeps the order of bytes, so this waits for all that was delayed and may itself be late.
        let mut released = store.ask(&Command::Release(release)).await;
        if released == Err(StoreError::Lost) {
            released = store.ask(&Command::Release(release)).await;
        }
        assert!(released.is_ok(), "{released:?}");
        assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(Admission::Fresh), "the id is free");
        wait_until_answered(&store).await;

        let ends = ends.borrow();
        let (mut on_time, mut late) = (0, 0);
        for (answer, took) in ends.iter() {
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
        assert_eq!(stats.errors, stats.late, "each once");
        assert_eq!((stats.reconnects, stats.queue_depth), (0, 0), "{stats:?}");
    });
}

#[test]
fn commands_given_up_count_as_in_flight() {
    const IN_FLIGHT_MAX: usize = 30;
    let redis = Redis::start();
    let wire = Proxy::start(&redis.addr());
    world::on_core(async move {
        let store = connect(&wire, IN_FLIGHT_MAX).await;
        let ends = ask_while_it_slows_down(&store, &wire).await;
        assert!(store.stats().queue_depth <= IN_FLIGHT_MAX as u64, "{:?}", store.stats());
        wire.delay_ms(0);
        wait_until_answered(&store).await;
        let count = |wanted: &Result<Answer, StoreError>| {
            ends.borrow().iter().filter(|(answer, _)| answer == wanted).count()
        };
        // 800 ms at a command each 20 ms would be 40 under way.
        assert!(count(&Err(StoreError::Full)) > 0, "{:?}", ends.borrow());
        assert!(count(&Err(StoreError::Lost)) > 0, "{:?}", ends.borrow());
        assert_eq!(count(&Err(StoreError::Away)), 0, "{:?}", ends.borrow());
        assert_eq!(store.ask(&Command::Ping).await, Ok(Answer::Done), "room came back");
        assert_eq!(store.stats().reconnects, 0);
    });
}
