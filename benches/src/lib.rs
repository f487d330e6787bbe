//! The stages of the request path, measured one by one: instruction counts and wall time.
//!
//! Owns: the measured orders ([`orders`]), the stages ([`stages`]) and the candidate parsers ([`json`]).
//! Called by: the program of this crate, which runs one stage under callgrind (`cargo xtask bench`), and
//! `benches/wall.rs`, which times all stages with criterion.
//!
//! Invariants: a stage does the same work in each run (no clock, no randomness, no growth after the first round over
//! [`orders::COUNT`] orders); its setup is complete before the meter starts. It never compares counts with limits: xtask
//! does, and the limits are in `instructions.toml`.

/// The measured orders.
pub mod orders;

/// The stages of the request path.
pub mod stages;

/// Our JSON parser compared with others.
pub mod json;

/// The hand-off to librdkafka.
mod handoff;

/// The work of a stage: called repeatedly with the number of an order.
pub type Work<'a> = &'a mut dyn FnMut(usize);

/// Counts or times the work; called after the setup of a stage.
pub type Meter<'a> = &'a mut dyn FnMut(Work<'_>);

/// A stage of the request path, or a candidate parser.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Its name in tables and files: `[a-z0-9_]+`.
    pub name: &'static str,
    /// Does the setup and calls the meter once with the work.
    pub run: fn(Meter<'_>),
    /// Whether wall time is meaningful: the calling thread has done all of the work when a call returns.
    pub is_timed: bool,
}

impl Stage {
    /// A stage whose work is complete when its call returns.
    pub const fn timed(name: &'static str, run: fn(Meter<'_>)) -> Self {
        Self { name, run, is_timed: true }
    }
}

/// All stages, in the order of the request path, then the candidate parsers.
pub fn all() -> Vec<Stage> {
    [stages::REQUEST_PATH, json::PARSERS].concat()
}
