//! Where the audit reads the truth, and how: many statuses at once, waiting for a source that is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use monoio::time::sleep;
use settings::RedisAddress;
use store::memory::Memory;
use store::open::Source;
use store::{Answer, AnyStore, Command, Policy, Store as _, StoreError};
use wire::names::Status;

use crate::http_orders::HttpOrders;
use crate::plan::{Item, Plan, Stocking};

/// Where statuses and stock are read.
#[derive(Debug, Clone)]
pub enum AuditSource {
    /// The store itself: statuses and stock.
    Store(Source),
    /// `GET /orders/{request_id}` of the target: statuses, no stock.
    Http,
    /// No audit: latencies and counts only.
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

/// Orders asked for in one command: a Redis with 1,000 keys to read answers within a millisecond, so that the
/// orders still on the road are not held up.
pub(crate) const IDS_MAX: usize = 1_000;
/// Commands of this reader in flight; it asks one at a time.
const IN_FLIGHT_MAX: usize = 16;
/// How long a source may be away before the audit gives up.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// No command of an audit looks at the policy; the scripts of the connection are compiled with it, so it is
/// one that every script can be compiled with.
const POLICY: Policy = Policy {
    rate_limit_max_requests: 60,
    rate_limit_window_ms: 60_000,
    order_status_ttl_ms: 86_400_000,
    takeover_after_ms: 2_000,
};

/// Tries to read stock and ledgers with no restock between them.
const STOCK_TRIES_MAX: usize = 20;

/// The units of every item of a plan, in its order, with nothing brought in between the two.
#[derive(Debug, Clone)]
pub(crate) struct StockBooks {
    /// Units left; `None` is unknown.
    pub(crate) left: Vec<Option<i64>>,
    /// Units that were ever brought in, by `stock set` and `stock add`; `None` where the store keeps no
    /// ledger.
    pub(crate) brought_in: Vec<Option<i64>>,
}

/// The units before the first arrival, by item of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Stocked {
    pub(crate) seeded: Vec<i64>,
    /// As [`StockBooks::brought_in`].
    brought_in: Vec<Option<i64>>,
}

impl Stocked {
    /// Units brought in since, by item: what the store's ledger says. One that began since began with the
    /// seeded units; without a ledger nothing is known to have come.
    pub(crate) fn restocked(&self, now: &StockBooks) -> Vec<i64> {
        let before = self.seeded.iter().zip(&self.brought_in);
        let since = |((&seeded, before), now): ((&i64, &Option<i64>), &Option<i64>)| {
            now.map_or(0, |now| now - before.unwrap_or(seeded))
        };
        before.zip(&now.brought_in).map(since).collect()
    }
}

/// An opened source. Belongs to the runtime it was opened in.
#[derive(Debug)]
pub(crate) enum Reader {
    Store(AnyStore),
    Http(HttpOrders),
}

impl Reader {
    /// Opens the source; `None` when there is none.
    pub(crate) async fn open(source: &AuditSource, plan: &Plan) -> Result<Option<Self>, String> {
        match source {
            AuditSource::None => Ok(None),
            AuditSource::Http => Ok(Some(Self::Http(HttpOrders::new(plan)))),
            AuditSource::Store(source) => Ok(Some(Self::Store(open_store(source).await?))),
        }
    }

    /// The words of at most [`IDS_MAX`] orders, in order.
    pub(crate) async fn statuses(&mut self, ids: &[String]) -> Result<Vec<Option<Status>>, String> {
        debug_assert!(ids.len() <= IDS_MAX);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Http(orders) => orders.statuses(ids, WAIT_MAX).await,
            Self::Store(store) => {
                let request_ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                match ask(store, &Command::Statuses { request_ids: &request_ids }).await? {
                    Answer::Statuses(statuses) if statuses.len() == ids.len() => Ok(statuses),
                    other => Err(StoreError::unexpected(&other).to_string()),
                }
            }
        }
    }

    /// Units left by item; `None` when this source knows no stock.
    pub(crate) async fn stock(&self, items: &[Item]) -> Result<Option<Vec<Option<i64>>>, String> {
        let Self::Store(store) = self else { return Ok(None) };
        let items: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        match ask(store, &Command::Stock { items: &items }).await? {
            Answer::Stock(levels) if levels.len() == items.len() => Ok(Some(levels)),
            other => Err(StoreError::unexpected(&other).to_string()),
        }
    }

    /// Units left and brought in; `None` when this source knows no stock.
    pub(crate) async fn books(&self, items: &[Item]) -> Result<Option<StockBooks>, String> {
        let Self::Store(store) = self else { return Ok(None) };
        let mut before = ledgers(store, items).await?;
        for _ in 0..STOCK_TRIES_MAX {
            let left = self.stock(items).await?.unwrap_or_default();
            let brought_in = ledgers(store, items).await?;
            if brought_in == before {
                return Ok(Some(StockBooks { left, brought_in }));
            }
            before = brought_in;
        }
        Err("items are restocked without a pause, so that what is left cannot be told".to_owned())
    }

    /// Puts the stock where the plan wants it, or finds it there; `None` when this source knows no stock.
    pub(crate) async fn stock_up(&self, plan: &Plan) -> Result<Option<Stocked>, String> {
        let Self::Store(store) = self else { return Ok(None) };
        if plan.stocking == Stocking::Set {
            for item in &plan.items {
                ask(store, &Command::SetStock { item_id: &item.id, units: item.stock }).await?;
            }
        }
        // Other shards may be selling already; that the stock was right is then judged by the merge.
        let is_shared = plan.stocking == Stocking::Expect && !plan.shard.is_whole();
        let mut levels = self.stock(&plan.items).await?.unwrap_or_default();
        let began = Instant::now();
        while is_shared && levels.contains(&None) && began.elapsed() < WAIT_MAX {
            sleep(RETRY_EVERY).await;
            levels = self.stock(&plan.items).await?.unwrap_or_default();
        }
        for (item, level) in plan.items.iter().zip(&levels) {
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
        let seeded = plan.items.iter().map(|item| item.stock as i64).collect();
        let brought_in = ledgers(store, &plan.items).await?;
        Ok(Some(Stocked { seeded, brought_in }))
    }
}

/// Units ever brought in, by item.
async fn ledgers(store: &AnyStore, items: &[Item]) -> Result<Vec<Option<i64>>, String> {
    let items: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    match ask(store, &Command::Ledgers { items: &items }).await? {
        Answer::Ledgers(ledgers) if ledgers.len() == items.len() => {
            Ok(ledgers.into_iter().map(|ledger| ledger.map(|ledger| ledger.base)).collect())
        }
        other => Err(StoreError::unexpected(&other).to_string()),
    }
}

/// Opens a store and waits until it can be reached.
pub(crate) async fn open_store(source: &Source) -> Result<AnyStore, String> {
    let store = source.open(&POLICY, IN_FLIGHT_MAX);
    let began = Instant::now();
    while !store.is_reachable() {
        if began.elapsed() > WAIT_MAX {
            let reason = store.trouble().unwrap_or_else(|| "no reason known".to_owned());
            return Err(format!("the store cannot be reached: {reason}"));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(store)
}

/// Asks until the store answers or [`WAIT_MAX`] is over. Only for commands that may be asked twice.
pub(crate) async fn ask(store: &AnyStore, command: &Command<'_>) -> Result<Answer, String> {
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
