//! Property: an order whose Redis reply is late gets 503 at the deadline and the connection to Redis stays open. The id,
//! which the late admission may have taken, becomes free again, because the release is sent after the admission on the
//! same connection.
//! Method: a real Redis behind a proxy whose delay grows while other orders keep the replies coming.

use crate::test_gateway;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use test_gateway::{TestGateway, order};
use testkit::proxy::Proxy;
use testkit::redis::Redis;

/// Delay of one direction: a round trip takes 700 ms; the deadline is 500 ms.
const DELAY_MS: u64 = 350;

#[test]
fn a_late_reply_fails_only_its_order() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    // Only Redis's deadline may reject orders here.
    let variables = [("REDIS_ADDR", &*proxy.addr()), ("WORKERS", "1"), ("OVERLOAD_TARGET_DELAY", "0")];
    let test_gateway = TestGateway::new(&variables);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "before"), &[]).status, 202);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for buyer in 0..16 {
            let (test_gateway, stop) = (&test_gateway, &stop);
            scope.spawn(move || {
                let mut client = test_gateway.client();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let user = format!("u{buyer}-{number}");
                    let status = client.post_buy(&order(&user, &user), &[]).status;
                    assert!(matches!(status, 202 | 503), "{status}");
                }
            });
        }
        for delay_ms in (0..=DELAY_MS).step_by(5) {
            proxy.delay_ms(delay_ms);
            std::thread::sleep(Duration::from_millis(20));
        }
        let began = Instant::now();
        let late = client.post_buy(&order("u", "late"), &[]);
        assert_eq!(late.status, 503, "{}", late.text());
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        proxy.delay_ms(0);
        stop.store(true, Ordering::Relaxed);
    });
    testkit::wait_until("the id is free", Duration::from_secs(10), || {
        client.post_buy(&order("u", "late"), &[]).status == 202
    });
    assert_eq!(client.post_buy(&order("u", "late"), &[]).status, 409);
    testkit::wait_until("every lost admission was released", Duration::from_secs(10), || {
        test_gateway.metric("gateway_unresolved_admissions") < 0.5
    });
    assert!(test_gateway.metric("gateway_redis_late_replies_total") > 0.5);
    assert!(test_gateway.metric("gateway_redis_reconnects_total").abs() < 0.5);
    test_gateway.assert_identity();
}
