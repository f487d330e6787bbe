//! The audit of a run in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::word::{self, Word};

/// The audit in numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LedgerReport {
    /// `redis`, `memory` or `http`.
    #[serde(deserialize_with = "word::one")]
    pub source: Word,
    /// Orders that were sent at least once.
    pub orders: u64,
    /// Orders answered 202.
    pub acknowledged: u64,
    /// Orders answered only 400, 410, 422 or 429.
    pub refused: u64,
    /// Orders without a 202 and with at least one unclear result: 500, 503, other status, timeout, reset.
    pub indeterminate: u64,
    /// Orders by final status.
    #[serde(deserialize_with = "word::keys")]
    pub ends: BTreeMap<Word, u64>,
    /// Acknowledged orders without a final status after the drain.
    pub unfinished: u64,
    /// Unfinished orders that are PENDING.
    #[serde(default)]
    pub pending: u64,
    /// Pending orders with a record in the topic, which a processor should have finished. 0 if the topics
    /// were not read.
    #[serde(default)]
    pub pending_recorded: u64,
    /// Time from the last response to the last final status, in milliseconds.
    pub drain_ms: u64,
    /// Time when the units left were read, in milliseconds since 1970; `null` if the source has no stock.
    pub stock_read_unix_ms: Option<u64>,
    /// Number of stock samples during the sale.
    pub stock_looks: u64,
    /// Number of unknown levels in these samples.
    pub stock_unknown: u64,
    /// Units per item; empty if the source has no stock.
    pub items: Vec<ItemReport>,
    /// Broken rules, with the orders that broke them.
    #[serde(rename = "offences")]
    pub violations: Vec<Violation>,
}

/// Units of one item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemReport {
    /// The item.
    pub item_id: String,
    /// Units before the first arrival.
    pub seeded: i64,
    /// Units brought in since then by `flash-sale stock add` or `set`, from the store's ledger; negative if
    /// units were taken out. A plain `SET` of the key is not in the ledger and is not a restock.
    #[serde(default)]
    pub restocked: i64,
    /// Total units brought in, from the same ledger; `null` if the store has none.
    #[serde(default)]
    pub brought_in: Option<i64>,
    /// Units left after the drain; `null` if unknown.
    pub left: Option<i64>,
    /// Units of `COMPLETED` orders.
    pub sold: u64,
    /// Units of `FAILED_PAYMENT` orders, which were returned to the stock.
    pub refunded: u64,
    /// Orders refused because the item was sold out: 410 and `FAILED_SOLD_OUT`.
    pub sold_out_refusals: u64,
    /// Lowest level of all samples and `left`.
    pub least_seen: Option<i64>,
}

impl ItemReport {
    /// Units available for sale.
    pub fn on_sale(&self) -> i64 {
        self.seeded + self.restocked
    }
}

/// A broken rule of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Stable name in `snake_case`, same as the check.
    #[serde(deserialize_with = "word::one")]
    pub rule: Word,
    /// Orders that broke it.
    pub count: u64,
    /// The first of these orders, at most 20.
    pub request_ids: Vec<String>,
}
