//! What the tests of the other crates stand on: real services as private child processes, a faulty wire
//! between a client and its server, and a client that says exactly the bytes it is told to say.
//!
//! Owns: the children it starts (each with its own port and directory), the proxies it opens, nothing else.
//! Called by: tests of every crate, and `xtask`, which starts the shared services with the same code.
//!
//! Invariants:
//! - A child never outlives the process that started it: it is killed by its own pid on `Drop`, and by the
//!   kernel when the process ends in any other way ([`child`]).
//! - Nothing waits without a deadline, and a deadline that passes names what was awaited.
//! - It never skips: a service that is missing is a panic that names the remedy.
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
