//! The synchronization types of [`crate::breaker`]. `tests/breaker_interleavings.rs` compiles the same source with
//! loom's types under this module name.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use parking_lot::Mutex;
