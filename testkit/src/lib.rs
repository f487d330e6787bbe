//! Test infrastructure for the other crates: real services as private child processes, a fault-injecting proxy
//! between a client and its server, and an HTTP client that sends exactly the bytes it is given.
//!
//! Owns: the children it starts (each with its own port and directory), the proxies it opens, nothing else.
//! Called by: tests of every crate, and `xtask`, which starts the shared services with the same code.
//!
//! Invariants:
//! - A child never outlives the process that started it: it is killed by its pid on `Drop`, and by the
//!   kernel when the process ends in any other way ([`child`]).
//! - Every wait has a deadline, and the error after a deadline names the awaited condition.
//! - It never skips a test: a missing service causes a panic whose message names the remedy.
//!
//! It never touches a process it did not start, and never binds an address other than 127.0.0.1.

pub mod child;

pub mod redis;

pub mod kafka;

pub mod prometheus;

pub mod proxy;

pub mod http;

pub mod documents;

mod port;

mod temp_dir;

mod wait;

pub use port::free_port;
pub use temp_dir::TempDir;
pub use wait::wait_until;
