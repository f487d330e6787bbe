//! Measures how a few long-lived connections are distributed over the cores. The kernel assigns them by a hash of their
//! addresses, which is even only for many connections: two connections share a core of two in half of all cases.
//!
//! The core of a connection is determined from outside: some requests are sent over it, and the core's thread that uses CPU
//! time meanwhile serves it.

use std::fmt::Write as _;

use testkit::http::Client;

use super::comparison::median;
use crate::perf::cpu;
use crate::perf::stage::{Actor, Stage};
use crate::step::{self, Result};

/// Numbers of connections.
const CONNECTIONS: &[usize] = &[2, 8, 20, 50];
/// Tries for each number.
const TRIES: usize = 10;
/// Requests for finding the core of a connection: each costs more CPU than the 10 ticks per second of an idle core.
const REQUESTS: usize = 20;
/// Prefix of the names of the cores' threads (`shard/src/launch.rs`).
const THREADS: &str = "gateway-";

/// Measures the share of connections on the busiest core, for each number of connections.
pub(super) fn measure(stage: &Stage) -> Result<String> {
    let gateway = stage.intake("orders-few", &[], &[])?;
    let cores = cpu::threads_ns(gateway.pid(), THREADS).len();
    let mut text = format!(
        "\n## Few connections\n\nConnections on the busiest of {cores} cores, {TRIES} tries each; {:.0} % would be even.\n\n\
         | connections | median | worst | cores without connections, worst |\n|---|---|---|---|\n",
        100.0 / cores as f64
    );
    for &connections in CONNECTIONS {
        let tries = step::timed(&format!("{connections} connections, {TRIES} times"), || {
            (0..TRIES).map(|_| spread(&gateway, connections)).collect::<Result<Vec<_>>>()
        })?;
        let shares: Vec<f64> = tries
            .iter()
            .map(|counts| counts.iter().max().copied().unwrap_or(0) as f64 * 100.0 / connections as f64)
            .collect();
        let worst = shares.iter().copied().fold(0.0, f64::max);
        let idle = tries.iter().map(|counts| counts.iter().filter(|&&count| count == 0).count()).max();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {connections} | {:.0} % | {worst:.0} % | {} |",
            median(shares.iter().copied()),
            idle.unwrap_or(0)
        );
    }
    gateway.end()?;
    Ok(text)
}

/// Number of connections per core.
fn spread(gateway: &Actor, connections: usize) -> Result<Vec<usize>> {
    // All are opened before the first request, because a listener may take its core's number of connections into account.
    let mut clients: Vec<Client> = (0..connections).map(|_| Client::connect(&gateway.address)).collect();
    let mut counts = vec![0; cpu::threads_ns(gateway.pid(), THREADS).len()];
    for client in &mut clients {
        let before = cpu::threads_ns(gateway.pid(), THREADS);
        for _ in 0..REQUESTS {
            client.get("/health");
        }
        let after = cpu::threads_ns(gateway.pid(), THREADS);
        let used = before.iter().zip(&after).map(|(before, after)| after.1 - before.1);
        if let Some((core, _)) = used.enumerate().max_by_key(|&(_, ns)| ns) {
            counts[core] += 1;
        }
        step::check_interrupt()?;
    }
    Ok(counts)
}
