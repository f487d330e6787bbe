//! Sources of statuses and stock. Reads many statuses at once, and retries while the source is unreachable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use monoio::time::sleep;
use settings::RedisAddress;
use store::memory::Memory;
use store::open::Source;
use store::{Answer, AnyStore, Command, Policy, Store as _, StoreError};
use wire::names::Status;

use crate::http_orders::HttpOrders;
use crate::sale::{Item, Sale, Stocking};

/// Source of statuses and stock.
#[derive(Debug, Clone)]
pub enum AuditSource {
    /// The store itself: statuses and stock.
    Store(Source),
    /// `GET /orders/{request_id}` of the target: statuses, no stock.
    Http,
    /// No audit: the run only has latencies and counts.
    None,
}

impl AuditSource {
    /// The embedded store of this process.
    pub fn memory(memory: Arc<Memory>) -> Self {
        Self::Store(Source::Memory(memory))
    }

    /// A Redis server; `None` for `embedded`, which another process cannot read.
    pub fn redis(address: &RedisAddress) -> Option<Self> {
        store::redis::Server::from_address(address).map(|server| Self::Store(Source::Redis(server)))
    }

    /// Its name in the report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Store(Source::Memory(_)) => "memory",
            Self::Store(Source::Redis(_)) => "redis",
            Self::Http => "http",
            Self::None => "none",
        }
    }
}

/// Maximum number of statuses per command: Redis reads 1,000 keys within a millisecond, so the orders still
/// being processed are not delayed.
pub const IDS_MAX: usize = 1_000;
/// Limit of commands in flight; the reader sends one at a time.
const IN_FLIGHT_MAX: usize = 16;
/// How long a source may be unreachable before the audit fails.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Retry interval.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// An audit does not depend on these values; they only have to be valid for compiling the scripts of its connection.
const POLICY: Policy = Policy {
    rate_limit_max_requests: 60,
    rate_limit_window_ms: 60_000,
    order_status_ttl_ms: 86_400_000,
    takeover_after_ms: 2_000,
};

/// Maximum number of attempts to read stock and ledgers without a restock in between.
const STOCK_TRIES_MAX: usize = 20;

/// The units of every item, in the order of the sale; both numbers were read with no restock in between.
#[derive(Debug, Clone)]
pub struct StockTotals {
    /// Units left; `None` if unknown.
    pub left: Vec<Option<i64>>,
    /// Total units brought in by `stock set` and `stock add`; `None` if the store has no ledger of the item.
    pub brought_in: Vec<Option<i64>>,
}

/// The units before the first arrival, by item.
#[derive(Debug, Clone)]
pub struct InitialStock {
    /// Units that were set or found.
    pub seeded: Vec<i64>,
    /// As [`StockTotals::brought_in`].
    brought_in: Vec<Option<i64>>,
}

impl InitialStock {
    /// Units brought in since then, by item, from the store's ledger. A ledger created since then started
    /// with the seeded units; without a ledger the number is 0.
    pub fn restocked(&self, now: &StockTotals) -> Vec<i64> {
        let before = self.seeded.iter().zip(&self.brought_in);
        let since = |((&seeded, before), now): ((&i64, &Option<i64>), &Option<i64>)| {
            now.map_or(0, |now| now - before.unwrap_or(seeded))
        };
        before.zip(&now.brought_in).map(since).collect()
    }
}

/// An opened source; usable only in the runtime that opened it.
#[derive(Debug)]
pub enum Reader {
    /// A store.
    Store(AnyStore),
    /// The target itself.
    Http(HttpOrders),
}

impl Reader {
    /// Opens the source; `None` for [`AuditSource::None`].
    ///
    /// # Errors
    /// When the store cannot be reached within 10 s.
    pub async fn open(source: &AuditSource, sale: &Sale) -> Result<Option<Self>, String> {
        match source {
            AuditSource::None => Ok(None),
            AuditSource::Http => Ok(Some(Self::Http(HttpOrders::new(sale)))),
            AuditSource::Store(source) => Ok(Some(Self::Store(open_store(source).await?))),
        }
    }

    /// The statuses of at most [`IDS_MAX`] orders, in the order of `ids`.
    ///
    /// # Errors
    /// When the source does not answer within 10 s, or refuses.
    pub async fn statuses(&mut self, ids: &[String]) -> Result<Vec<Option<Status>>, String> {
        debug_assert!(ids.len() <= IDS_MAX);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Http(orders) => orders.statuses(ids, WAIT_MAX).await,
            Self::Store(store) => {
                let request_ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                match query(store, &Command::Statuses { request_ids: &request_ids }).await? {
                    Answer::Statuses(statuses) if statuses.len() == ids.len() => Ok(statuses),
                    other => Err(StoreError::unexpected(&other).to_string()),
                }
            }
        }
    }

    /// Units left by item; `None` if this source has no stock.
    ///
    /// # Errors
    /// As [`Reader::statuses`].
    pub async fn stock(&self, items: &[Item]) -> Result<Option<Vec<Option<i64>>>, String> {
        let Self::Store(store) = self else { return Ok(None) };
        let items: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        match query(store, &Command::Stock { items: &items }).await? {
            Answer::Stock(levels) if levels.len() == items.len() => Ok(Some(levels)),
            other => Err(StoreError::unexpected(&other).to_string()),
        }
    }

    /// Units left and brought in, by item; `None` if this source has no stock.
    ///
    /// # Errors
    /// As [`Reader::statuses`], and when items are restocked without a pause.
    pub async fn stock_totals(&self, items: &[Item]) -> Result<Option<StockTotals>, String> {
        let Self::Store(store) = self else { return Ok(None) };
        let mut before = units_brought_in(store, items).await?;
        for _ in 0..STOCK_TRIES_MAX {
            let left = self.stock(items).await?.unwrap_or_default();
            let brought_in = units_brought_in(store, items).await?;
            if brought_in == before {
                return Ok(Some(StockTotals { left, brought_in }));
            }
            before = brought_in;
        }
        Err("items are restocked continuously, so the remaining units cannot be determined".to_owned())
    }

    /// Sets the stock, or checks that it is as expected; `None` if this source has no stock.
    ///
    /// # Errors
    /// As [`Reader::statuses`], and when the stock found is not the expected one.
    pub async fn prepare_stock(&self, sale: &Sale) -> Result<Option<InitialStock>, String> {
        let Self::Store(store) = self else { return Ok(None) };
        if sale.stocking == Stocking::Set {
            for item in &sale.items {
                query(store, &Command::SetStock { item_id: &item.id, units: item.stock }).await?;
            }
        }
        // Other shards may be selling already; the merge then checks that the stock was right.
        let is_shared = sale.stocking == Stocking::Expect && !sale.shard.is_whole();
        let mut levels = self.stock(&sale.items).await?.unwrap_or_default();
        let began = Instant::now();
        while is_shared && levels.contains(&None) && began.elapsed() < WAIT_MAX {
            sleep(RETRY_EVERY).await;
            levels = self.stock(&sale.items).await?.unwrap_or_default();
        }
        for (item, level) in sale.items.iter().zip(&levels) {
            let is_expected = level.is_some_and(|units| {
                let stock = item.stock as i64;
                units == stock || is_shared && (0..stock).contains(&units)
            });
            if !is_expected {
                let found =
                    level.map_or_else(|| "no known stock".to_owned(), |units| format!("{units} units"));
                return Err(format!("item {} has {found}, the plan expects {}", item.id, item.stock));
            }
        }
        let seeded = sale.items.iter().map(|item| item.stock as i64).collect();
        let brought_in = units_brought_in(store, &sale.items).await?;
        Ok(Some(InitialStock { seeded, brought_in }))
    }
}

/// Total units brought in, by item.
async fn units_brought_in(store: &AnyStore, items: &[Item]) -> Result<Vec<Option<i64>>, String> {
    let items: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    match query(store, &Command::Ledgers { items: &items }).await? {
        Answer::Ledgers(ledgers) if ledgers.len() == items.len() => {
            Ok(ledgers.into_iter().map(|ledger| ledger.map(|ledger| ledger.base)).collect())
        }
        other => Err(StoreError::unexpected(&other).to_string()),
    }
}

/// Opens a store and waits until it can be reached.
///
/// # Errors
/// When it cannot be reached within 10 s, with the reason.
pub async fn open_store(source: &Source) -> Result<AnyStore, String> {
    let store = source.open(&POLICY, IN_FLIGHT_MAX);
    let began = Instant::now();
    while !store.is_reachable() {
        if began.elapsed() > WAIT_MAX {
            let reason = store.last_error().unwrap_or_else(|| "no reason known".to_owned());
            return Err(format!("the store cannot be reached: {reason}"));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(store)
}

/// Retries the command until the store replies or `WAIT_MAX` has passed. Only for idempotent commands.
///
/// # Errors
/// When the store does not answer within 10 s, or refuses the command.
pub async fn query(store: &AnyStore, command: &Command<'_>) -> Result<Answer, String> {
    let began = Instant::now();
    loop {
        match store.ask(command).await {
            Ok(answer) => return Ok(answer),
            Err(StoreError::Refused(reason)) => return Err(reason),
            Err(error) if began.elapsed() > WAIT_MAX => return Err(error.to_string()),
            Err(_) => sleep(RETRY_EVERY).await,
        }
    }
}
