//! Property: if a gateway is stopped right after a 202 and continues when the id is old enough for a takeover, it does not
//! acknowledge a second send that has waited in its socket.
//! Method: a real gateway: SIGSTOP before its watermark is written, then the second send, then SIGCONT.

use std::process::Stdio;
use std::time::Duration;

use process::{WAIT_MAX, World};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

#[test]
fn second_send_is_not_acknowledged() {
    let world = World::new();
    let variables = [("WORKERS", "2"), ("PUBLISH_TIMEOUT", "1s")];
    let mut gateway = world.start_with("gateway", &variables, Stdio::null(), Stdio::null());
    gateway.wait_health(200);
    // The gateway distributes few connections evenly: the second one is on the other core, which does not know the first order.
    let mut clients = [(); 2].map(|()| Client::connect(gateway.address().as_str()));
    for client in &mut clients {
        assert_eq!(client.get("/live").status, 200);
    }
    let [first, second] = &mut clients;
    // The first orders of a producer may be slow: it must first request its id.
    let mut warm_ups = 0;
    wait_until("orders are accepted", WAIT_MAX, || {
        warm_ups += 1;
        let order =
            format!(r#"{{"user_id":"w{warm_ups}","item_id":"101","amount":1,"request_id":"w{warm_ups}"}}"#);
        first.post_buy(&order, &[]).status == 202
    });
    let order = r#"{"user_id":"u","item_id":"101","amount":1,"request_id":"once"}"#;
    assert_eq!(first.post_buy(order, &[]).status, 202);
    gateway.signal(Signal::Stop);
    second.send_raw(&second.buy_request(order, &[]));
    // There is no event to wait for: the id must become older than PUBLISH_TIMEOUT.
    std::thread::sleep(Duration::from_secs(3));
    gateway.signal(Signal::Continue);
    let status = second.read_response().status;
    assert!(matches!(status, 409 | 503), "{status}");
    wait_until("a retry is rejected as a duplicate", WAIT_MAX, || match second.post_buy(order, &[]).status {
        503 => false,
        status => {
            assert_eq!(status, 409);
            true
        }
    });
    assert_eq!(gateway.terminate(), Some(0));
}
