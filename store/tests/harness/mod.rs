//! Test harness of this crate: a policy, and a core with a connection to a private Redis.

// Each test file uses only a part of it.
#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use store::memory::Memory;
use store::redis::{Connection, ConnectionSettings, Server};
use store::{
    AdmissionKey, Admit, Answer, Claim, Command, FinalStatus, Origin, Policy, Reserve, Settle, Store,
    StoreError,
};
use testkit::redis::Redis;
use wire::names::Status;

/// Start time of tests with a manual clock.
pub const NOON_MS: u64 = 1_764_453_360_000;

/// Small limits, so that short histories reach them, and TTLs longer than any test runs.
pub fn policy() -> Policy {
    Policy {
        rate_limit_max_requests: 3,
        rate_limit_window_ms: 10_000,
        order_status_ttl_ms: 3_600_000,
        takeover_after_ms: 2500,
    }
}

/// Runs `life` on a core in this thread.
pub fn on_core<T: 'static>(body: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&result);
    shard::launch::run(0, None, |_| async move {
        let value = body.await;
        slot.replace(Some(value));
    })
    .expect("a runtime");
    result.take().expect("the future has completed")
}

pub fn server(addr: &str) -> Server {
    let (host, port) = addr.rsplit_once(':').expect("host:port");
    Server { host: host.to_owned(), port: port.parse().expect("a port"), user: None, password: None, db: 0 }
}

/// Opens a connection of this core without waiting until it is reachable.
pub fn open(addr: &str, policy: Policy) -> Rc<Connection> {
    Connection::open(ConnectionSettings::new(server(addr), policy, 4096))
}

/// Opens a connection and waits until it is reachable.
pub async fn connect(redis: &Redis, policy: Policy) -> Rc<Connection> {
    let connection = open(&redis.addr(), policy);
    assert!(connection.reachable_within(Duration::from_secs(10)).await, "{:?}", connection.last_error());
    connection
}

/// An admission.
pub fn admit<'a>(user_id: &'a str, request_id: &'a str, sequence: u64) -> Admit<'a> {
    Admit {
        user_id,
        request_id,
        fingerprint: 0xfeed_0000_0000_beef,
        correlation_id: "c-1",
        owner: "core0",
        sequence,
        accepted_at_ms: NOON_MS,
    }
}

/// Names the admission of [`admit`], to release or suspend it.
pub fn admission_key<'a>(user_id: &'a str, request_id: &'a str, sequence: u64) -> AdmissionKey<'a> {
    AdmissionKey { user_id, request_id, owner: "core0", sequence }
}

pub fn origin(offset: i64) -> Origin {
    Origin { partition: 7, offset }
}

/// A reservation for attempt 0.
pub fn reserve<'a>(request_id: &'a str, item_id: &'a str, amount: u32) -> Reserve<'a> {
    Reserve { request_id, item_id, accepted_at_ms: NOON_MS, amount, attempt: 0, origin: origin(1) }
}

/// A claim for the order of [`admit`].
pub fn claim(request_id: &str) -> Claim<'_> {
    let Admit { fingerprint, correlation_id, accepted_at_ms, .. } = admit("u", request_id, 1);
    Claim { request_id, fingerprint, correlation_id, accepted_at_ms }
}

/// A final status for the order of [`admit`].
pub fn final_status(request_id: &str, status: Status, attempt: u32) -> FinalStatus<'_> {
    let Claim { fingerprint, correlation_id, accepted_at_ms, .. } = claim(request_id);
    FinalStatus { request_id, status, attempt, fingerprint, correlation_id, accepted_at_ms }
}

/// The settlement or refund that matches [`reserve`].
pub fn settle<'a>(request_id: &'a str, item_id: &'a str) -> Settle<'a> {
    Settle { request_id, item_id, accepted_at_ms: NOON_MS, attempt: 0, origin: origin(1) }
}

/// Polls the future once, which sends the command, and drops it: the answer is lost.
pub async fn drop_after_sending(future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "it must wait for its reply");
        Poll::Ready(())
    })
    .await;
}

/// A store whose time a test can advance.
pub trait Timed: Store {
    /// Ages every key by `ms`.
    fn advance(&self, ms: u64);
}

/// The model with a manual clock.
pub struct Model {
    memory: Arc<Memory>,
    clock: Arc<AtomicU64>,
}

impl Model {
    pub fn new(policy: Policy, entries_max: usize) -> Self {
        let clock = Arc::new(AtomicU64::new(NOON_MS));
        let reading = Arc::clone(&clock);
        let now_ms = move || reading.load(Ordering::Relaxed);
        Self { memory: Memory::with_clock(policy, entries_max, now_ms), clock }
    }
}

impl Store for Model {
    fn ask(&self, command: &Command<'_>) -> impl Future<Output = Result<Answer, StoreError>> {
        self.memory.ask(command)
    }

    fn ask_all(&self, commands: &[Command<'_>]) -> impl Future<Output = Vec<Result<Answer, StoreError>>> {
        self.memory.ask_all(commands)
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

impl Timed for Model {
    fn advance(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }
}

/// A connection to a Redis whose keys a test can make older.
pub struct Aged {
    connection: Rc<Connection>,
    addr: String,
}

impl Aged {
    pub async fn connect(redis: &Redis, policy: Policy) -> Self {
        Self { connection: connect(redis, policy).await, addr: redis.addr() }
    }
}

impl Store for Aged {
    fn ask(&self, command: &Command<'_>) -> impl Future<Output = Result<Answer, StoreError>> {
        self.connection.ask(command)
    }

    fn ask_all(&self, commands: &[Command<'_>]) -> impl Future<Output = Vec<Result<Answer, StoreError>>> {
        self.connection.ask_all(commands)
    }

    fn is_reachable(&self) -> bool {
        self.connection.is_reachable()
    }
}

/// Reduces the TTL of every key, and the times in the rate-limit logs (`count.lua`).
const AGE: &str = "
    for _, key in ipairs(redis.call('KEYS', '*')) do
      local left = redis.call('PTTL', key)
      local log = left >= 0 and string.sub(key, 1, 10) == 'ratelimit:' and redis.call('GET', key)
      if log and string.sub(log, 1, 1) == 'L' then
        local older = 'L'
        for at = 2, #log, 12 do
          older = older .. struct.pack('>I6', struct.unpack('>I6', log, at) - ARGV[1]) .. string.sub(log, at + 6, at + 11)
        end
        redis.call('SET', key, older, 'KEEPTTL')
      end
      if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
    end";

impl Timed for Aged {
    fn advance(&self, ms: u64) {
        let reply = testkit::redis::call(&self.addr, &["EVAL", AGE, "0", &ms.to_string()]);
        assert_eq!(reply, testkit::redis::Reply::Nil);
    }
}

/// Generates two tests from one scenario, an `async fn(&impl Timed)`: in the model, and (feature `real`) in a
/// private Redis.
#[macro_export]
macro_rules! in_both {
    ($($scenario:ident),* $(,)?) => {
        mod in_the_model {
            $(#[test]
            fn $scenario() {
                let model = super::harness::Model::new(super::harness::policy(), 10_000);
                super::harness::on_core(async move { super::$scenario(&model).await });
            })*
        }
        #[cfg(feature = "real")]
        mod in_redis {
            $(#[test]
            fn $scenario() {
                let redis = testkit::redis::Redis::start();
                super::harness::on_core(async move {
                    let store = super::harness::Aged::connect(&redis, super::harness::policy()).await;
                    super::$scenario(&store).await;
                });
            })*
        }
    };
}
