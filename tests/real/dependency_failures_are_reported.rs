//! Property: gateway and processor both report any failure of Redis or Kafka: `/health` shows false for it, even without
//! traffic; orders are answered with 503, never 500; the cause is counted and logged in one WARN line. When the cause ends,
//! they recover by themselves and log one INFO line. A first start on a new Kafka is not a failure. Method: the binary on a
//! real Redis and Kafka, which are brought into each of these states and back.

use std::time::{Duration, Instant};

use process::{Process, WAIT_MAX, World, topic_config};
use testkit::http::Client;
use testkit::redis::Redis;
use testkit::wait_until;

use crate::process;

type Calls = &'static [&'static [&'static str]];

/// Limit from the failure to `/health`, and from the recovery to the first 202. The contract is 2 s; the rest is for a machine
/// busy with other tests.
const NOTICED_MAX: Duration = Duration::from_secs(10);
/// The item of the test.
const ITEM: &str = "101";

fn buy(gateway: &Process, request_id: &str) -> u16 {
    let body =
        format!(r#"{{"user_id":"{request_id}","item_id":"{ITEM}","amount":1,"request_id":"{request_id}"}}"#);
    Client::connect(gateway.address().as_str()).post_buy(&body, &[]).status
}

fn is_unhealthy_with(process: &Process, field: &str) -> bool {
    process.get("/health").is_some_and(|(code, body)| code == 503 && body.contains(field))
}

fn is_healthy(process: &Process) -> bool {
    process.get("/health").is_some_and(|(code, _)| code == 200)
}

fn counted(process: &Process, service: &str, dependency: &str, reason: &str) -> f64 {
    let labels = format!("{{dependency=\"{dependency}\",reason=\"{reason}\"}}");
    process.metric(&format!("{service}_dependency_errors_total{labels}")).expect("the series exists")
}

/// Starts both services with log level info.
fn start(world: &World, variables: &[(&str, &str)]) -> [Process; 2] {
    let variables: Vec<_> = variables
        .iter()
        .copied()
        .chain([
            ("LOG_LEVEL", "info"),
            ("PAYMENT_FAILURE_RATE", "0"),
            ("CIRCUIT_BREAKER_BASE_TIMEOUT", "500ms"),
        ])
        .collect();
    [world.start_gateway(&variables), world.start(&variables)]
}

const SERVICES: [&str; 2] = ["gateway", "processor"];

/// A Redis with the user `shop`, who has all permissions at first.
fn world_with_user() -> (World, String) {
    let world = World::on(Redis::start_with(&["--enable-protected-configs", "yes"]));
    let everything = ["ACL", "SETUSER", "shop", "on", ">secret", "allkeys", "allcommands"];
    assert_eq!(world.redis().call(&everything).text().as_deref(), Some("OK"));
    world.store.set_stock(ITEM, 1000);
    let address = format!("redis://shop:secret@{}", world.redis_addr());
    (world, address)
}

fn redis_fails(reason: &str, cause: Calls, repair: Calls) {
    let (world, address) = world_with_user();
    let services = start(&world, &[("REDIS_ADDR", &address)]);
    for process in &services {
        process.wait_health(200);
    }
    let [gateway, _] = &services;
    assert_eq!(buy(gateway, "before"), 202);
    world.wait_for_final_status(&["before".to_owned()], 1);

    let call = |calls: Calls| {
        for args in calls {
            world.redis().call(args);
        }
    };
    call(cause);
    for (process, service) in services.iter().zip(SERVICES) {
        wait_until(&format!("{service} reports it without traffic"), NOTICED_MAX, || {
            is_unhealthy_with(process, "\"redis\":false")
        });
    }
    // Each core detects the failure by itself; until then it may accept an order whose commands still work.
    let mut sent = 0;
    wait_until(&format!("{reason}: every core rejects orders"), NOTICED_MAX, || {
        (0..20).all(|_| {
            sent += 1;
            buy(gateway, &format!("during-{sent}")) == 503
        })
    });
    for (process, service) in services.iter().zip(SERVICES) {
        wait_until("counted", NOTICED_MAX, || counted(process, service, "redis", reason) >= 1.0);
        wait_until("logged", NOTICED_MAX, || !process.lines(&["dependency_down", reason]).is_empty());
        assert!(is_unhealthy_with(process, "\"redis\":false"), "{service}");
    }

    call(repair);
    let recovered = Instant::now();
    wait_until("the first 202 after it", NOTICED_MAX, || buy(gateway, "after") != 503);
    println!("{reason}: first 202 {:?} after recovery", recovered.elapsed());
    world.wait_for_final_status(&["after".to_owned()], 1);
    for (process, service) in services.iter().zip(SERVICES) {
        wait_until("healthy again", NOTICED_MAX, || is_healthy(process));
        wait_until("recovery logged", NOTICED_MAX, || {
            !process.lines(&["dependency_up", "duration_ms"]).is_empty()
        });
        let down = process.lines(&["WARN", "dependency_down", "\"dependency\":\"redis\"", reason]);
        assert_eq!(down.len(), 1, "{service}: {down:?}");
        let up = process.lines(&["INFO", "dependency_up", "\"dependency\":\"redis\""]);
        assert_eq!(up.len(), 1, "{service}: {up:?}");
        assert_eq!(process.lines(&["\"level\":\"ERROR\""]), Vec::<String>::new(), "{service}");
    }
}

#[test]
fn wrong_password_is_reported() {
    redis_fails(
        "auth",
        &[&["ACL", "SETUSER", "shop", "resetpass", ">other"], &["CLIENT", "KILL", "USER", "shop"]],
        &[&["ACL", "SETUSER", "shop", ">secret"]],
    );
}

#[test]
fn missing_command_permission_is_reported() {
    // SET is used by orders, PSETEX by watermarks and by the scripts of the processor.
    redis_fails(
        "permission",
        &[&["ACL", "SETUSER", "shop", "-set", "-psetex"]],
        &[&["ACL", "SETUSER", "shop", "+set", "+psetex"]],
    );
}

#[test]
fn missing_evalsha_permission_is_reported() {
    redis_fails(
        "permission",
        &[&["ACL", "SETUSER", "shop", "-evalsha"]],
        &[&["ACL", "SETUSER", "shop", "+evalsha"]],
    );
}

#[test]
fn missing_key_permission_is_reported() {
    redis_fails(
        "permission",
        &[&["ACL", "SETUSER", "shop", "resetkeys", "~inventory:*", "~ratelimit:*"]],
        &[&["ACL", "SETUSER", "shop", "allkeys"]],
    );
}

#[test]
fn replica_is_reported() {
    redis_fails("read_only", &[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]]);
}

#[test]
fn full_memory_is_reported() {
    redis_fails(
        "out_of_memory",
        &[&["CONFIG", "SET", "maxmemory", "1mb"]],
        &[&["CONFIG", "SET", "maxmemory", "0"]],
    );
}

#[test]
fn too_few_replicas_are_reported() {
    redis_fails(
        "not_enough_replicas",
        &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
    );
}

#[test]
fn failing_snapshots_are_reported() {
    redis_fails(
        "persistence",
        &[
            &["CONFIG", "SET", "save", "3600 1"],
            // Not even root can write files there.
            &["CONFIG", "SET", "dir", "/proc"],
            &["BGSAVE"],
        ],
        &[&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]],
    );
}

#[test]
fn cluster_mode_is_reported() {
    let world = World::on(Redis::start_with(&["--cluster-enabled", "yes"]));
    world.redis().call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until("the cluster has its slots", WAIT_MAX, || {
        let info = world.redis().call(&["CLUSTER", "INFO"]).text().unwrap_or_default();
        info.contains("cluster_state:ok")
    });
    let services = start(&world, &[]);
    for (process, service) in services.iter().zip(SERVICES) {
        wait_until("logged", WAIT_MAX, || {
            process.lines(&["WARN", "dependency_down", "cluster_mode"]).len() == 1
        });
        assert!(is_unhealthy_with(process, "\"redis\":false"), "{service}");
        assert!(counted(process, service, "redis", "cluster_mode") >= 1.0, "{service}");
    }
    assert_eq!(buy(&services[0], "r"), 503);
    assert_eq!(services[0].lines(&["\"level\":\"ERROR\""]), Vec::<String>::new());
}

#[test]
fn topic_that_rejects_records_is_reported() {
    let world = World::on(Redis::start());
    world.store.set_stock(ITEM, 1000);
    let services = start(&world, &[]);
    for process in &services {
        process.wait_health(200);
    }
    let [gateway, _] = &services;
    assert_eq!(buy(gateway, "before"), 202);
    let set_max = |bytes: &str| {
        topic_config::set(&world.topics.bootstrap, &world.topics.orders, &[("max.message.bytes", bytes)]);
    };
    set_max("100");
    let mut number = 0;
    wait_until("the breaker opens", WAIT_MAX, || {
        number += 1;
        // Orders are still accepted until the leader applies the new limit.
        let status = buy(gateway, &format!("during-{number}"));
        assert!(status == 202 || status == 503, "{status}");
        is_unhealthy_with(gateway, "\"kafka\":false")
    });
    assert!(counted(gateway, "gateway", "kafka", "message_too_large") >= 1.0);
    for event in ["circuit_breaker_open", "dependency_down"] {
        wait_until(event, NOTICED_MAX, || !gateway.lines(&[event]).is_empty());
        let lines = gateway.lines(&["WARN", event]);
        assert!(lines.len() == 1 && lines[0].contains("\"reason\":\"message_too_large\""), "{lines:?}");
    }
    set_max("1048588");
    wait_until("orders are accepted again", WAIT_MAX, || {
        number += 1;
        buy(gateway, &format!("after-{number}")) == 202 && is_healthy(gateway)
    });
    // Half-open is healthy, but the breaker closes only after its second probe.
    for event in ["circuit_breaker_closed", "dependency_up"] {
        wait_until(event, NOTICED_MAX, || {
            number += 1;
            buy(gateway, &format!("after-{number}"));
            gateway.lines(&["INFO", event, "duration_ms"]).len() == 1
        });
    }
    assert_eq!(gateway.lines(&["\"level\":\"ERROR\""]), Vec::<String>::new());
}

#[test]
fn first_start_is_not_a_failure() {
    let world = World::without_topics(Redis::start());
    world.store.set_stock(ITEM, 1000);
    let services = start(&world, &[("ORDERS_PARTITIONS", "4")]);
    for process in &services {
        process.wait_health(200);
    }
    assert_eq!(buy(&services[0], "first"), 202);
    world.wait_for_final_status(&["first".to_owned()], 1);
    for (process, service) in services.iter().zip(SERVICES) {
        for bad in ["\"level\":\"ERROR\"", "dependency_down", "kafka_notice"] {
            assert_eq!(process.lines(&[bad]), Vec::<String>::new(), "{service}");
        }
    }
}
