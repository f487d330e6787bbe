//! How a few long-lived connections spread over the cores. The kernel deals them by a hash of their addresses, which is
//! even only over many: two of two land on one core every second time.
//!
//! Which core has a connection is seen from outside: it is asked a few times, and the thread that runs meanwhile is it.

use std::fmt::Write as _;

use testkit::http::Client;

use super::contest::median;
use crate::perf::cpu;
use crate::perf::stage::{Actor, Stage};
use crate::step::{self, Result};

/// Numbers of connections that are opened.
const CONNECTIONS: &[usize] = &[2, 8, 20, 50];
/// How often each.
const TRIES: usize = 10;
/// Requests by which the core of a connection is found: each one costs more than the 10 ticks a second of a core that
/// idles.
const REQUESTS: usize = 20;
/// What the cores' threads are called (`shard/src/launch.rs`).
const THREADS: &str = "gateway-";

/// The busiest core's share for each number of connections.
pub(super) fn measure(stage: &Stage) -> Result<String> {
    let gateway = stage.intake("orders-few", &[], &[])?;
    let cores = cpu::threads_ns(gateway.pid(), THREADS).len();
    let mut text = format!(
        "\n## Few connections\n\nConnections on the busiest of {cores} cores, {TRIES} tries each; {:.0} % would be even.\n\n\
         | connections | median | worst | cores without any, worst |\n|---|---|---|---|\n",
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

/// Connections of each core.
fn spread(gateway: &Actor, connections: usize) -> Result<Vec<usize>> {
    // All are open before the first is asked: a listener may look at how many its core has.
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
