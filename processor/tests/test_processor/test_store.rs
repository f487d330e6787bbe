//! The store as seen by a test: the in-memory model of the embedded default, or a Redis server queried with
//! plain commands.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::sync::Arc;

use store::memory::Memory;
use store::{Answer, Command};
use testkit::redis::call;
use wire::names::{INVENTORY_PREFIX, LEDGER_PREFIX, ORDER_STATUS_PREFIX, TAG_END};
use wire::status_value::StatusValue;

/// Statuses per query.
const CHUNK: usize = 1000;

/// The store of a test processor.
#[derive(Clone)]
pub enum TestStore {
    Memory(Arc<Memory>),
    /// `host:port`
    Redis(String),
}

impl TestStore {
    /// Sets the stock like `flash-sale stock set`.
    pub fn set_stock(&self, item_id: &str, units: u64) {
        match self {
            Self::Memory(memory) => {
                let answer = memory.apply(&Command::SetStock { item_id, units });
                assert_eq!(answer, Ok(Answer::StockLeft(Some(units as i64))));
            }
            Self::Redis(addr) => {
                let units = units.to_string();
                let ledger = format!("{LEDGER_PREFIX}{item_id}{TAG_END}");
                call(addr, &["HSET", &ledger, "base", &units, "taken", "0"]);
                call(addr, &["SET", &format!("{INVENTORY_PREFIX}{item_id}"), &units]);
            }
        }
    }

    /// Units left; `None` if unknown.
    pub fn left(&self, item_id: &str) -> Option<i64> {
        match self {
            Self::Memory(memory) => match memory.apply(&Command::Stock { items: &[item_id] }) {
                Ok(Answer::Stock(left)) => left[0],
                other => panic!("{other:?}"),
            },
            Self::Redis(addr) => call(addr, &["GET", &format!("{INVENTORY_PREFIX}{item_id}")]).int(),
        }
    }

    /// Base and taken units; `None` if none were ever taken or set.
    pub fn ledger(&self, item_id: &str) -> Option<(i64, i64)> {
        match self {
            Self::Memory(memory) => match memory.apply(&Command::Ledgers { items: &[item_id] }) {
                Ok(Answer::Ledgers(ledgers)) => ledgers[0].map(|ledger| (ledger.base, ledger.taken)),
                other => panic!("{other:?}"),
            },
            Self::Redis(addr) => {
                let field =
                    |field| call(addr, &["HGET", &format!("{LEDGER_PREFIX}{item_id}{TAG_END}"), field]).int();
                field("base").zip(field("taken"))
            }
        }
    }

    /// The status word of an order; `None` if there is none.
    pub fn status(&self, request_id: &str) -> Option<String> {
        self.statuses(&[request_id.to_owned()]).remove(0)
    }

    /// The status words of several orders, in the same order.
    pub fn statuses(&self, request_ids: &[String]) -> Vec<Option<String>> {
        let ask = |ids: &[String]| -> Vec<Option<String>> {
            match self {
                Self::Memory(memory) => {
                    let request_ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    match memory.apply(&Command::Statuses { request_ids: &request_ids }) {
                        Ok(Answer::Statuses(statuses)) => statuses
                            .into_iter()
                            .map(|status| status.map(|status| status.word().to_owned()))
                            .collect(),
                        other => panic!("{other:?}"),
                    }
                }
                Self::Redis(addr) => {
                    let keys: Vec<String> =
                        ids.iter().map(|id| format!("{ORDER_STATUS_PREFIX}{id}")).collect();
                    let args: Vec<&str> =
                        std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
                    match call(addr, &args) {
                        testkit::redis::Reply::Array(replies) => {
                            let word = |value: String| StatusValue::parse(&value).word.to_owned();
                            replies.into_iter().map(|reply| reply.text().map(word)).collect()
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        };
        request_ids.chunks(CHUNK).flat_map(ask).collect()
    }
}
