//! The results table.

use std::fmt::Write as _;

use super::comparison::Row;

/// All rows, with an explanation of the columns.
pub(super) fn text(rows: &[Row], seconds: u64, rounds: u64) -> String {
    let mut text = format!(
        "## Acknowledged orders\n\nwrk, one thread, closed loop, unique orders, runs of {seconds} s; medians of {rounds} \
         alternating rounds (64 and 1,024 connections at warn: one run). CPU in µs per acknowledged order; system calls, \
         allocations and Redis columns per order as well. `perf/README.md` explains how each is measured.\n\n\
         | who | connections | orders/s | p50 ms | p99 ms | p99.9 ms | server CPU | Redis CPU | Kafka CPU | client CPU \
         | Redis calls | Redis commands | syscalls¹ | allocations¹ | RSS MiB | refused |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let connections = if row.connections == 0 { "-".to_owned() } else { row.connections.to_string() };
        // Writing to a string cannot fail.
        let _ = write!(text, "| {} | {connections} |", row.who);
        for (figure, decimals) in [
            (row.rate, 0),
            (row.p50_ms, 2),
            (row.p99_ms, 2),
            (row.p999_ms, 2),
            (row.server_us, 2),
            (row.redis_us, 2),
            (row.kafka_us, 2),
            (row.client_us, 2),
            (row.redis_calls, 2),
            (row.redis_commands, 2),
            (row.syscalls, 2),
            (row.allocations, 2),
            (row.rss_mib, 0),
            (row.refused, 0),
        ] {
            let _ =
                if figure.is_nan() { write!(text, " - |") } else { write!(text, " {figure:.decimals$} |") };
        }
        text.push('\n');
    }
    text
}
