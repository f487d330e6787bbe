//! Claim: the audit reads a real Redis by the runbook's key names, stocks it up, and stands a Redis that is
//! away.
//!
//! Method: a target whose orders and stock are written into a private Redis with plain commands, not by our
//! store; once honest, once with an order without a status; and a Redis that is not there at all.

use crate::target;

use std::sync::Arc;

use loadgen::report::Verdict;
use loadgen::{AuditSource, RunError};
use settings::RedisAddress;
use target::{Conduct, Target, failed, run};
use testkit::redis::{Redis, Reply, call};

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

/// A target that sells out of this Redis; the order with this number is forgotten.
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
fn a_sale_out_of_redis_adds_up() {
    let redis = Redis::start();
    let target = target(&redis, None);
    // One at a time: DECR and INCR are two steps, and a look between them would see a level that was never
    // sold from.
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
fn an_order_that_redis_does_not_know_is_named() {
    let redis = Redis::start();
    let target = target(&redis, Some(50));
    let mut plan = target.plan();
    plan.connections = 1;
    plan.items[0].stock = 300;
    let report = run(&plan, &source(&redis));
    assert_eq!(failed(&report), ["every_202_ends_once"], "{:#?}", report.checks);
    let ledger = report.ledger.as_ref().expect("an audit");
    assert_eq!((ledger.offences[0].count, ledger.offences[0].request_ids.len()), (1, 1));
}

#[test]
fn without_redis_the_run_does_not_begin() {
    let mut redis = Redis::start();
    let target = target(&redis, None);
    let source = source(&redis);
    redis.stop();
    let result = loadgen::run(&target.plan(), &source, loadgen::progress::Quiet, &Arc::default());
    let Err(RunError::Truth(reason)) = result else { panic!("{result:?}") };
    assert!(reason.contains("cannot be reached"), "{reason}");
    assert_eq!(target.received(), 0);
}
