//! Access to private stages of the gateway for the workspace's benches, behind a feature so that it is not public API.

use wire::uuid::UUID_CHARS;

use crate::identity::Identities;
use crate::order::{self, Order};

/// Appends the Kafka record value of an order.
pub fn encode_record(order: &Order<'_>, accepted_at_ms: u64, value: &mut Vec<u8>) {
    order::encode(order, accepted_at_ms, value);
}

/// Generates correlation ids as a core does.
#[derive(Default)]
pub struct CorrelationIds(Identities);

impl CorrelationIds {
    /// The next id, as text.
    pub fn next_id(&self) -> [u8; UUID_CHARS] {
        self.0.uuid()
    }
}
