//! Promise: with Redis away or hanging every buyer hears 503 within a second, nothing is let through, /health says
//! so, and afterwards every refused id can be bought with: an id whose admission was lost is not locked. Method: a
//! real Redis, stopped, frozen and cut off under a running gateway.

use crate::test_gateway;

use std::time::{Duration, Instant};

use test_gateway::{TestGateway, order};
use testkit::http::Client;
use testkit::proxy::Proxy;
use testkit::redis::Redis;

/// The promise is a second; the rest is for a machine that runs other tests at the same time.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1500);

fn refused_in_time(client: &mut Client, id: &str) {
    let began = Instant::now();
    let response = client.post_buy(&order("u", id), &[]);
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(began.elapsed() < ANSWER_TIME_MAX, "{:?}", began.elapsed());
}

fn accepted_again(test_gateway: &TestGateway, client: &mut Client, id: &str) {
    testkit::wait_until("Redis is seen again", Duration::from_secs(20), || test_gateway.running().is_ready());
    let mut last = 0;
    // The id may still be held by the lost admission until that was given back.
    testkit::wait_until("the id is accepted", Duration::from_secs(10), || {
        last = client.post_buy(&order("u", id), &[]).status;
        last == 202
    });
    assert_eq!(client.post_buy(&order("u", id), &[]).status, 409);
}

#[test]
fn a_stopped_redis() {
    let mut redis = Redis::start();
    let test_gateway = TestGateway::new(&[("REDIS_ADDR", &redis.addr())]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    redis.stop();
    refused_in_time(&mut client, "a");
    testkit::wait_until("health sees it", Duration::from_secs(3), || {
        let health = client.get("/health");
        health.status == 503 && health.text().contains("\"redis\":false")
    });
    refused_in_time(&mut client, "a");
    redis.restart();
    accepted_again(&test_gateway, &mut client, "a");
    test_gateway.assert_identity();
}

#[test]
fn a_frozen_redis() {
    let mut redis = Redis::start();
    let test_gateway = TestGateway::new(&[("REDIS_ADDR", &redis.addr())]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    redis.pause();
    refused_in_time(&mut client, "a");
    refused_in_time(&mut client, "b");
    redis.resume();
    accepted_again(&test_gateway, &mut client, "a");
    accepted_again(&test_gateway, &mut client, "b");
    test_gateway.assert_identity();
}

#[test]
fn a_connection_cut_between_command_and_answer() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    let test_gateway = TestGateway::new(&[("REDIS_ADDR", &proxy.addr()), ("WORKERS", "1")]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    proxy.delay_ms(300);
    client.send_raw(&client.buy_request(&order("u", "a"), &[]));
    testkit::wait_until("the command is on its way", Duration::from_secs(5), || {
        test_gateway.metric("gateway_in_flight") > 0.5
    });
    proxy.cut();
    assert_eq!(client.read_response().status, 503);
    proxy.delay_ms(0);
    proxy.pass();
    accepted_again(&test_gateway, &mut client, "a");
    test_gateway.assert_identity();
}
