//! Reads every variable of the contract from text into plain structs, once, at startup.
//!
//! One table ([`table`]) defines each setting with its default, range and help text; the flags, the variables and the
//! checks are derived from it, and `docs/configuration.md` must match it. Flags take precedence over variables. All invalid
//! values are reported in one run, each with name, value and accepted range (contract, "Processes"); the caller exits with
//! 64.
//!
//! Nothing is read after startup, and no other crate reads the environment.

/// The table of all settings.
pub mod table;

/// Formats and accepted ranges of values.
pub mod kind;

/// Reads flags and environment into validated structs.
pub mod read;

pub use kind::{KafkaAddress, LogLevel, Partitioner, RedisAddress};
pub use read::{BadSettings, Gateway, Processor, Shared};
