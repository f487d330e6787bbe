//! Property: the audit sets the stock in a real Redis and reads it by the runbook's key names; without Redis
//! the run does not start.
//!
//! Method: a target that writes orders and stock into a private Redis with plain commands, without our store:
//! once correct, once with an order without a status. Then a Redis that is stopped.

use std::sync::Arc;

use audit::AuditSource;
use loadgen::RunError;
use report::Verdict;
use settings::RedisAddress;
use target::{Conduct, Target, failed, run};
use testkit::redis::{Redis, Reply, call};

use crate::target;

fn source(redis: &Redis) -> AuditSource {
    let address = RedisAddress::Server {
        host: "127.0.0.1".to_owned(),
        port: redis.port(),
        user: None,
        password: None,
        db: 0,
    };
    AuditSource::redis(&address).expect("a server")
}

/// A target that sells from this Redis; the order with this number gets 202 and is not processed.
fn target(redis: &Redis, forgotten: Option<u64>) -> Target {
    let address = redis.addr();
    Target::start(move |_, order| {
        if Some(order.number) == forgotten {
            return Conduct::Say(202);
        }
        let inventory = format!("inventory:{}", order.item_id);
        let status = if call(&address, &["DECR", &inventory]).int().expect("an integer") >= 0 {
            "COMPLETED"
        } else {
            call(&address, &["INCR", &inventory]);
            "FAILED_SOLD_OUT"
        };
        let reply = call(&address, &["SET", &format!("order_status:{}", order.request_id), status]);
        assert_eq!(reply, Reply::Status("OK".to_owned()));
        Conduct::Say(202)
    })
}

#[test]
fn a_sale_from_redis_adds_up() {
    let redis = Redis::start();
    let target = target(&redis, None);
    // One connection: DECR and INCR are two steps, and a stock sample between them would see a negative
    // level.
    let mut plan = target.plan();
    plan.connections = 1;
    plan.items[0].stock = 300;
    let report = run(&plan, &source(&redis));
    assert_eq!(failed(&report), [""; 0], "{:#?}", report.checks);
    assert_eq!(report.verdict, Verdict::Pass);
    let ledger = report.ledger.as_ref().expect("an audit");
    assert_eq!((ledger.source, ledger.ends["COMPLETED"]), ("redis", 300));
    assert_eq!((ledger.items[0].left, ledger.items[0].least_seen), (Some(0), Some(0)));
}

#[test]
fn an_order_without_status_in_redis_is_found() {
    let redis = Redis::start();
    let target = target(&redis, Some(50));
    let mut plan = target.plan();
    plan.connections = 1;
    plan.items[0].stock = 300;
    let report = run(&plan, &source(&redis));
    assert_eq!(failed(&report), ["every_202_ends_once"], "{:#?}", report.checks);
    let ledger = report.ledger.as_ref().expect("an audit");
    assert_eq!((ledger.violations[0].count, ledger.violations[0].request_ids.len()), (1, 1));
}

#[test]
fn without_redis_the_run_does_not_start() {
    let mut redis = Redis::start();
    let target = target(&redis, None);
    let source = source(&redis);
    redis.stop();
    let result = loadgen::run(&target.plan(), &source, loadgen::progress::Quiet, &Arc::default());
    let Err(RunError::AuditSource(reason)) = result else { panic!("{result:?}") };
    assert!(reason.contains("cannot be reached"), "{reason}");
    assert_eq!(target.received(), 0);
}
