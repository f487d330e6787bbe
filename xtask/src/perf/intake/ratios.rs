//! Ratios between figures of the table, compared with their required limits.

use std::fmt::Write as _;

use super::comparison::Row;
use super::redis_baseline;

/// Rows with the measured ratio, its limit, and whether it was held or missed.
#[derive(Debug, Default)]
pub(super) struct Ratios(String);

/// Limit of a ratio.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    Most(f64),
    Least(f64),
}

impl Ratios {
    /// Adds a row, unless a figure is missing.
    pub(super) fn line(&mut self, name: &str, found: f64, limit: Limit) {
        if found.is_nan() {
            return;
        }
        let (sign, limit, holds) = match limit {
            Limit::Most(limit) => ("≤", limit, found <= limit),
            Limit::Least(limit) => ("≥", limit, found >= limit),
        };
        let word = if holds { "held" } else { "missed" };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "| {name} | {found:.2} | {sign} {limit} | {word} |");
    }

    /// Adds the ratios between rows of the table.
    pub(super) fn between(&mut self, rows: &[Row]) {
        use Limit::{Least, Most};
        let of = |who: &str, connections: usize, pick: fn(&Row) -> f64| {
            let row = rows.iter().find(|row| row.who == who && row.connections == connections);
            row.map_or(f64::NAN, pick)
        };
        let cpu: fn(&Row) -> f64 = |row| row.server_us;
        let rate: fn(&Row) -> f64 = |row| row.rate;
        let p99: fn(&Row) -> f64 = |row| row.p99_ms;
        let redis: fn(&Row) -> f64 = |row| row.redis_us;
        let ours = |connections, pick| of("gateway", connections, pick);
        for at in [256, 1024] {
            self.line(
                &format!("gateway CPU / responder CPU, {at}"),
                ours(at, cpu) / of("responder", at, cpu),
                Most(1.5),
            );
            self.line(
                &format!("gateway CPU / axum CPU, {at}"),
                ours(at, cpu) / of("axum", at, cpu),
                Most(0.4),
            );
            self.line(
                &format!("gateway orders/s / axum orders/s, {at}"),
                ours(at, rate) / of("axum", at, rate),
                Least(1.7),
            );
        }
        self.line("gateway p99 / axum p99, 256", ours(256, p99) / of("axum", 256, p99), Most(0.6));
        self.line(
            "Redis CPU per accepted order / INCR + SET NX EX, 256",
            ours(256, redis) / of(redis_baseline::WHO, 1, redis),
            Most(2.0),
        );
        for at in [64, 1024, 4096] {
            let name = format!("gateway CPU at {at} / at 256");
            self.line(&name, ours(at, cpu) / ours(256, cpu), Most(1.15));
        }
        self.line(
            "gateway CPU, two cores / one",
            ours(256, cpu) / of("gateway, one core", 256, cpu),
            Most(1.15),
        );
        self.line(
            "gateway CPU, epoll / io_uring",
            of("gateway, epoll", 256, cpu) / ours(256, cpu),
            Most(1.15),
        );
        self.line(
            "gateway orders/s, epoll / io_uring",
            of("gateway, epoll", 256, rate) / ours(256, rate),
            Least(0.85),
        );
    }

    /// The section of the report.
    pub(super) fn text(&self) -> String {
        format!(
            "\n## Ratios within this run\n\n| figure | measured | required | |\n|---|---|---|---|\n{}",
            self.0
        )
    }
}
