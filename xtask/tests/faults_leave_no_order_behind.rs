//! Property: while the gateway, Redis or connections to Kafka fail and recover, every order gets exactly one final status,
//! units add up and orders are accepted again. Method: a short selection of `cargo xtask chaos`, whose full run is reported
//! in `docs/faults.md`; a failure prints the seed, the fault times and the command that reproduces it.

use std::path::Path;
use std::process::Command;

/// Orders per fault: about six seconds of load around two injections.
const ORDERS: &str = "4000";
/// Factor for the recovery limits: debug builds that share two cores with other tests recover more slowly.
const RECOVERY_SLACK: &str = "5";

fn check(fault: &str) {
    let xtask = env!("CARGO_BIN_EXE_xtask");
    let binary = Path::new(xtask).with_file_name("flash-sale");
    assert!(binary.exists(), "{} is missing. Remedy: cargo xtask test, or cargo build", binary.display());
    let seed = std::env::var("CHAOS_SEED").unwrap_or_else(|_| "1".to_owned());
    let output = Command::new(xtask)
        .args(["chaos", "--fault", fault, "--seed", &seed, "--orders", ORDERS, "--times", "2"])
        .args(["--recovery-slack", RECOVERY_SLACK, "--binary"])
        .arg(binary)
        .output()
        .expect("xtask starts");
    assert!(
        output.status.success(),
        "CHAOS_SEED={seed}, {fault}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn no_order_is_lost_when_the_gateway_is_killed() {
    check("gateway-killed");
}

#[test]
fn no_order_is_lost_when_redis_with_append_only_file_is_killed() {
    check("redis-killed-aof-always");
}

#[test]
fn no_order_is_lost_when_kafka_connections_are_reset() {
    check("kafka-reset");
}
