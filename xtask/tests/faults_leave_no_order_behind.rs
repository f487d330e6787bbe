//! Claim: while the gateway, Redis or connections to Kafka break and come back, every order has its one final status, units
//! add up and orders are accepted again. Method: a short selection of `cargo xtask chaos`, whose full run is
//! `docs/faults.md`; a failure prints the seed, the fault times and the command that repeats it.

use std::path::Path;
use std::process::Command;

/// Orders per fault: about six seconds of load around two injections.
const ORDERS: &str = "4000";
/// Debug builds beside other tests on two cores are this much slower to recover than the limits promise.
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
fn a_gateway_is_killed() {
    check("gateway-killed");
}

#[test]
fn redis_is_killed_and_has_a_log() {
    check("redis-killed-aof-always");
}

#[test]
fn connections_to_kafka_are_reset() {
    check("kafka-reset");
}
