//! Description of a sale for the audit: the items, and the order for each number.

use std::net::SocketAddr;
use std::time::Duration;

use report::Shard;

/// One item on sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Item id, as allowed by the contract.
    pub id: String,
    /// Units on sale, 0..=10^12.
    pub stock: u64,
}

/// Whether the run sets the stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stocking {
    /// The run sets it before the first arrival.
    Set,
    /// The stock is already set; a run that finds another number does not start.
    Expect,
}

/// A sale.
#[derive(Debug, Clone)]
pub struct Sale {
    /// Address of the gateway, for an audit over HTTP.
    pub target: SocketAddr,
    /// The `Host` header, likewise.
    pub host: String,
    /// Prefix of every request id.
    pub run_id: String,
    /// Number of orders of all shards.
    pub buyers: u64,
    /// Items on sale.
    pub items: Vec<Item>,
    /// Whether the run sets the stock.
    pub stocking: Stocking,
    /// The share of the orders that this generator sent.
    pub shard: Shard,
    /// How long acknowledged orders may take to reach their final status after the last response.
    pub drain_timeout: Duration,
}

/// Item and units of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Index into the items of the sale.
    pub item: usize,
    /// Units.
    pub amount: u32,
}

/// The orders of a sale. Each is a pure function of its number, so no order is stored.
pub trait Orders {
    /// The request id of an order.
    fn request_id(&self, sequence: u64) -> String;

    /// Item and units of an order.
    fn want(&self, sequence: u64) -> Want;
}
