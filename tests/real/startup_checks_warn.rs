//! Property: in both services, each setting of Redis or Kafka with which a sale could lose orders causes one WARN line with the
//! remedy and a 0 in the metric. A corrected setting changes the metric to 1 without a restart. A setting that the server does
//! not reveal is -1 and stops nothing. Method: the binary on a real Redis and Kafka with such configurations.

use std::time::Duration;

use process::{Process, WAIT_MAX, World, topic_config};
use testkit::redis::Redis;
use testkit::wait_until;

use crate::process;

/// Checks are repeated every minute.
const REPEATED_MAX: Duration = Duration::from_secs(100);

fn check(process: &Process, service: &str, name: &str) -> Option<f64> {
    process.metric(&format!("{service}_startup_check{{check=\"{name}\"}}"))
}

#[test]
fn bad_settings_warn_once_and_corrections_are_detected() {
    // testkit starts Redis without snapshots and without an append-only file.
    let world = World::on(Redis::start_with(&["--maxmemory-policy", "allkeys-lru"]));
    let poor = [("cleanup.policy", "compact"), ("retention.ms", "60000")];
    topic_config::set(&world.topics.bootstrap, &world.topics.orders, &poor);
    let level = [("LOG_LEVEL", "info")];
    let services = [("gateway", world.start_gateway(&level)), ("processor", world.start(&level))];
    let expected = [
        ("redis_version", 1.0),
        ("redis_eviction", 0.0),
        ("redis_persistence", 0.0),
        ("orders_cleanup_policy", 0.0),
        ("orders_retention", 0.0),
        // A single broker needs no second replica.
        ("orders_replication", 1.0),
        ("dlq_cleanup_policy", 1.0),
        ("dlq_replication", 1.0),
    ];
    for (service, process) in &services {
        process.wait_health(200);
        for (name, value) in expected {
            wait_until(&format!("{service} {name} is {value}"), WAIT_MAX, || {
                check(process, service, name) == Some(value)
            });
            // The log has its own thread, so a line may appear after the metric.
            let warnings = || process.lines(&["WARN", "startup_check", name]).len();
            wait_until(&format!("{service} logs {name}"), WAIT_MAX, || {
                warnings() >= usize::from(value < 1.0)
            });
            assert_eq!(warnings(), usize::from(value < 1.0), "{service}: {name}");
        }
    }
    world.redis().call(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let (service, process) = &services[0];
    wait_until("the corrected setting is 1", REPEATED_MAX, || {
        check(process, service, "redis_eviction") == Some(1.0)
    });
    assert_eq!(process.lines(&["WARN", "startup_check", "redis_persistence"]).len(), 1, "warned once");
}

#[test]
fn redis_without_config_permission_is_unknown_and_works() {
    let world = World::on(Redis::start());
    let rights = ["ACL", "SETUSER", "shop", "on", ">secret", "allkeys", "allcommands", "-config", "-info"];
    assert_eq!(world.redis().call(&rights).text().as_deref(), Some("OK"));
    let address = format!("redis://shop:secret@{}", world.redis_addr());
    let gateway = world.start_gateway(&[("REDIS_ADDR", &address), ("LOG_LEVEL", "info")]);
    gateway.wait_health(200);
    wait_until("logged as unknown", WAIT_MAX, || gateway.lines(&["INFO", "startup_check"]).len() == 3);
    assert_eq!(check(&gateway, "gateway", "redis_eviction"), Some(-1.0));
    assert_eq!(gateway.lines(&["WARN", "startup_check", "redis"]), Vec::<String>::new());
}
