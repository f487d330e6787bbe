//! Dead letters after the processor has written them: what they say, which of them are settled, and sending them again.
//!
//! A letter stays in its topic until Kafka's retention takes it; what was replayed or purged is marked in Redis
//! ([`marks`]). Open letters are those without a mark: `processor_dlq_size` and the age of the oldest count them.
//!
//! Invariants:
//! - a letter is replayed at most once, also when a replay is killed between the broker's acknowledgement and the
//!   mark: letters on their way are written down first, and the next replay looks for them in `orders` before it
//!   does anything else ([`replay`]);
//! - a replay is a new attempt of the same order: the scripts let it move an order that failed, and never one that
//!   is COMPLETED.
//!
//! Blocks: for command lines and threads of their own, never for a core.

/// What a letter says.
pub mod letter;

/// Which letters are meant.
pub mod filter;

/// Which letters are settled.
pub mod marks;

/// Letters, one after the other.
pub mod scan;

/// Letters back into `orders`.
pub mod replay;

pub use filter::Filter;
pub use letter::Letter;
pub use marks::{Marks, MarksError, connect};
