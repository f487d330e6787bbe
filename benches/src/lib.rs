//! The stages of the request path, measured one by one: instruction counts and wall time.
//!
//! Owns: the orders that are measured ([`orders`]), the stations ([`stations`]) and the contestants of the parser
//! ([`json`]). Called by the program of this crate, which runs one station under callgrind (`cargo xtask bench`), and by
//! `benches/wall.rs`, which times all of them with criterion.
//!
//! Invariants: a station's work is the same at each run (no clock, no chance, no growth after the first round over
//! [`orders::COUNT`] orders); what it needs is made before the meter starts. It never judges: the limits stand in
//! `instructions.toml` and are the business of xtask.

/// What is measured with.
pub mod orders;

/// The road.
pub mod stations;

/// Our parser beside others.
pub mod json;

/// The hand-off to librdkafka.
mod handoff;

/// One piece of work: called with the number of the order, again and again.
pub type Work<'a> = &'a mut dyn FnMut(usize);

/// Whoever counts or times; gets the work when everything it needs was made.
pub type Meter<'a> = &'a mut dyn FnMut(Work<'_>);

/// A station.
#[derive(Debug, Clone, Copy)]
pub struct Station {
    /// Its name in tables and files: `[a-z0-9_]+`.
    pub name: &'static str,
    /// Makes what it needs and gives its work to the meter, once.
    pub run: fn(Meter<'_>),
    /// Its time means something: all of its work is done when it returns, by the thread that calls.
    pub is_timed: bool,
}

/// All of them, in the order of the road; then the contestants.
pub fn all() -> Vec<Station> {
    [stations::ROAD, json::CONTESTANTS].concat()
}
