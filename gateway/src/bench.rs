//! Stations that are private to the gateway, for the workspace's benches: a feature keeps them out of what others see.

use wire::uuid::UUID_CHARS;

use crate::identity::Identities;
use crate::order::{self, Order};

/// Appends the value of the record of an order.
pub fn encode_record(order: &Order<'_>, accepted_at_ms: u64, value: &mut Vec<u8>) {
    order::encode(order, accepted_at_ms, value);
}

/// Makes correlation ids, as a core does.
#[derive(Default)]
pub struct CorrelationIds(Identities);

impl CorrelationIds {
    /// The next one, as text.
    pub fn next_id(&self) -> [u8; UUID_CHARS] {
        self.0.uuid()
    }
}
