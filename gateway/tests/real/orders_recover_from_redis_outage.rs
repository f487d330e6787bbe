//! Property: while Redis is unreachable or hangs, every order gets 503 within a second, none is accepted, and /health shows
//! it. Afterwards every rejected id can be used again: an id whose admission was lost is not locked.
//! Method: a real Redis is stopped, frozen and disconnected while the gateway runs.

use crate::test_gateway;

use std::time::{Duration, Instant};

use test_gateway::{TestGateway, order};
use testkit::http::Client;
use testkit::proxy::Proxy;
use testkit::redis::Redis;

/// The specification is one second; the rest is slack for a machine that runs other tests at the same time.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1500);

fn assert_refused_in_time(client: &mut Client, id: &str) {
    let began = Instant::now();
    let response = client.post_buy(&order("u", id), &[]);
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(began.elapsed() < ANSWER_TIME_MAX, "{:?}", began.elapsed());
}

fn assert_accepted_again(test_gateway: &TestGateway, client: &mut Client, id: &str) {
    testkit::wait_until("Redis is seen again", Duration::from_secs(20), || test_gateway.running().is_ready());
    let mut last = 0;
    // The id may still be held by the lost admission until that is released.
    testkit::wait_until("the id is accepted", Duration::from_secs(10), || {
        last = client.post_buy(&order("u", id), &[]).status;
        last == 202
    });
    assert_eq!(client.post_buy(&order("u", id), &[]).status, 409);
}

#[test]
fn orders_recover_from_a_stopped_redis() {
    let mut redis = Redis::start();
    let test_gateway = TestGateway::new(&[("REDIS_ADDR", &redis.addr())]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    redis.stop();
    assert_refused_in_time(&mut client, "a");
    testkit::wait_until("/health shows it", Duration::from_secs(3), || {
        let health = client.get("/health");
        health.status == 503 && health.text().contains("\"redis\":false")
    });
    assert_refused_in_time(&mut client, "a");
    redis.restart();
    assert_accepted_again(&test_gateway, &mut client, "a");
    test_gateway.assert_identity();
}

#[test]
fn orders_recover_from_a_frozen_redis() {
    let mut redis = Redis::start();
    let test_gateway = TestGateway::new(&[("REDIS_ADDR", &redis.addr())]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    redis.pause();
    assert_refused_in_time(&mut client, "a");
    assert_refused_in_time(&mut client, "b");
    redis.resume();
    assert_accepted_again(&test_gateway, &mut client, "a");
    assert_accepted_again(&test_gateway, &mut client, "b");
    test_gateway.assert_identity();
}

#[test]
fn orders_recover_from_a_connection_cut_before_the_reply() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    let test_gateway = TestGateway::new(&[("REDIS_ADDR", &proxy.addr()), ("WORKERS", "1")]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    proxy.delay_ms(300);
    client.send_raw(&client.buy_request(&order("u", "a"), &[]));
    testkit::wait_until("the command is in flight", Duration::from_secs(5), || {
        test_gateway.metric("gateway_in_flight") > 0.5
    });
    proxy.cut();
    assert_eq!(client.read_response().status, 503);
    proxy.delay_ms(0);
    proxy.pass();
    assert_accepted_again(&test_gateway, &mut client, "a");
    test_gateway.assert_identity();
}
