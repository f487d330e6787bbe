//! Every variable of the contract, from text to a plain struct, once, at start.
//!
//! One table ([`table`]) names each setting with its default, its range and its help; the flags, the variables, the
//! checks and `docs/configuration.md` follow from it. Flags win over variables. All bad values are reported in one
//! run, each with the name, the value and the accepted range (contract, "Processes"); the caller exits with 64.
//!
//! Nothing here is read after the start; no other crate reads the environment.

/// The settings by name.
pub mod table;

/// How a value is written and what of it is accepted.
pub mod kind;

/// Text from flags and environment into checked structs.
pub mod read;

pub use kind::{KafkaAddress, LogLevel, Partitioner, RedisAddress};
pub use read::{BadSettings, Gateway, Processor, Shared};
