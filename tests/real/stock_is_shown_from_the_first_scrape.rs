//! Property: `processor_inventory_level` contains every item with stock from the first scrape after a restart, even without
//! orders, so that alerts on it survive a restart; an item set later appears as well. Method: the binary on a real Redis
//! with items set by hand among many other keys; the first response on its port is checked.

use std::net::TcpStream;
use std::time::Duration;

use process::{WAIT_MAX, World};
use testkit::redis::call;
use testkit::wait_until;

use crate::process;

/// Keys that are not items.
const OTHERS: u64 = 20_000;
/// Items are listed again every minute.
const LISTED_MAX: Duration = Duration::from_secs(100);

#[test]
fn first_metrics_page_contains_every_item() {
    let world = World::new();
    let fill =
        format!("for i = 1, {OTHERS} do redis.call('SET', 'order_status:' .. i, 'COMPLETED') end return 1");
    call(&world.redis_addr(), &["EVAL", &fill, "0"]);
    for (item, units) in [("101", "3"), ("102", "500"), ("103", "0")] {
        call(&world.redis_addr(), &["SET", &format!("inventory:{item}"), units]);
    }
    call(&world.redis_addr(), &["SET", "inventory:not an item", "7"]);
    for round in 0..2 {
        let processor = world.start(&[]);
        wait_until("it listens", WAIT_MAX, || TcpStream::connect(processor.address()).is_ok());
        let (_, page) = processor.get("/metrics").expect("a page");
        let levels: Vec<&str> =
            page.lines().filter(|line| line.starts_with("processor_inventory_level{")).collect();
        assert_eq!(levels.len(), 3, "round {round}: {levels:?}");
        for expected in ["item_id=\"101\"} 3", "item_id=\"102\"} 500", "item_id=\"103\"} 0"] {
            assert!(levels.iter().any(|line| line.ends_with(expected)), "{expected}: {levels:?}");
        }
        if round == 1 {
            call(&world.redis_addr(), &["SET", "inventory:104", "9"]);
            wait_until("a later item", LISTED_MAX, || {
                processor.metric("processor_inventory_level{item_id=\"104\"}") == Some(9.0)
            });
        }
        assert_eq!(processor.terminate(), Some(0));
    }
}
