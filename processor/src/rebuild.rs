//! Computes the units left of an item whose stock Redis has lost: units brought in minus units sold according
//! to the orders topic. For `flash-sale stock rebuild`. Blocks, so it must not run on a core.
//!
//! Every order of the item counts once, by its request id:
//! - COMPLETED: sold;
//! - any failed final status: not sold;
//! - no final status, because Redis has lost it as well: not sold if the order has a dead letter, else
//!   assumed sold. This errs on the side of selling too few units: a sold-out order has no dead letter
//!   either, so it counts as sold.
//!
//! Works only without consumer lag. While orders are being processed, the result would be outdated before it
//! is written.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use queue::admin::{AdminError, Depth, Group};
use queue::reader::TopicReader;
use shard::launch;
use store::open::Source;
use store::{Answer, AnyStore, Command, Policy, Store as _};
use wire::names::Status;

/// Timeout for each reply of Redis or Kafka.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Most statuses per query.
const IDS_MAX: usize = 1000;

/// Store, Kafka address, topics and group to use.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Redis with statuses and ledger.
    pub source: Source,
    /// Store policy.
    pub policy: Policy,
    /// Kafka bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
    /// `CONSUMER_GROUP`
    pub group: String,
}

/// Result, in units unless stated otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Units brought in: as given, or from the ledger.
    pub brought_in: i64,
    /// Units of COMPLETED orders.
    pub sold: i64,
    /// Units of orders whose status is lost and that have no dead letter.
    pub taken_as_sold: i64,
    /// Number of orders of the item.
    pub orders: u64,
    /// Stock in Redis now; `None` if unknown.
    pub level: Option<i64>,
    /// False if records of the topic were deleted: the units they sold are then unknown.
    pub is_whole: bool,
}

impl Rebuilt {
    /// Units that must be left, at least 0.
    pub fn left(&self) -> i64 {
        (self.brought_in - self.sold - self.taken_as_sold).max(0)
    }
}

/// Why the rebuild failed.
#[derive(Debug)]
pub enum RebuildError {
    /// Kafka cannot be read.
    Kafka(AdminError),
    /// Redis query failed.
    Store(String),
    /// The consumer group has this many unprocessed records.
    NotAtRest(u64),
    /// The units brought in are unknown: no ledger, and no number given.
    NothingBroughtIn,
}

impl fmt::Display for RebuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(error) => error.fmt(formatter),
            Self::Store(reason) => write!(formatter, "Redis: {reason}"),
            Self::NotAtRest(lag) => write!(
                formatter,
                "the group has {lag} unprocessed records; wait until a processor has finished them (see \
                 processor_consumer_lag); orders of an item with unknown stock become dead letters meanwhile"
            ),
            Self::NothingBroughtIn => formatter.write_str(
                "the ledger of the item is lost as well; give the number of units brought in: --seeded UNITS",
            ),
        }
    }
}

impl std::error::Error for RebuildError {}

impl From<AdminError> for RebuildError {
    fn from(error: AdminError) -> Self {
        Self::Kafka(error)
    }
}

/// Computes the units left. `seeded` is the number of units brought in, if the ledger is lost. With `apply`
/// it also sets the stock.
///
/// # Errors
/// [`RebuildError`]; nothing has been changed then.
pub fn rebuild(
    endpoints: &Endpoints,
    item_id: &str,
    seeded: Option<u64>,
    apply: bool,
) -> Result<Rebuilt, RebuildError> {
    check_rest(endpoints)?;
    let dead_lettered = dead_lettered(endpoints)?;
    let mut found = Err(RebuildError::Store("not queried".to_owned()));
    launch::run(0, None, |_| async {
        found = walk(endpoints, item_id, seeded, &dead_lettered, apply).await;
    })
    .map_err(|error| RebuildError::Store(error.to_string()))?;
    found
}

fn check_rest(endpoints: &Endpoints) -> Result<(), RebuildError> {
    let ends = Depth::open(&endpoints.kafka, WAIT_MAX)?.watermarks(&endpoints.orders_topic)?;
    let group = Group::open(&endpoints.kafka, &endpoints.group, WAIT_MAX)?;
    let committed = group.committed(&endpoints.orders_topic, &ends)?;
    let lag: i64 =
        ends.iter().zip(committed).map(|(marks, done)| (marks.high - done.unwrap_or(marks.low)).max(0)).sum();
    if lag > 0 { Err(RebuildError::NotAtRest(lag as u64)) } else { Ok(()) }
}

/// Request ids that have a dead letter.
fn dead_lettered(endpoints: &Endpoints) -> Result<HashSet<String>, RebuildError> {
    let mut ids = HashSet::new();
    TopicReader::open(&endpoints.kafka, &endpoints.dlq_topic, WAIT_MAX)?.read(|entry| {
        let header = entry.header(c"request_id").map(|id| String::from_utf8_lossy(id).into_owned());
        let of_value = || Some(wire::record::decode(entry.value()?).ok()?.request_id.into_owned());
        ids.extend(header.or_else(of_value));
        ControlFlow::Continue(())
    })?;
    Ok(ids)
}

async fn walk(
    endpoints: &Endpoints,
    item_id: &str,
    seeded: Option<u64>,
    dead_lettered: &HashSet<String>,
    apply: bool,
) -> Result<Rebuilt, RebuildError> {
    let store = endpoints.source.open(&endpoints.policy, 16);
    if let AnyStore::Redis(connection) = &store
        && !connection.reachable_within(WAIT_MAX).await
    {
        let trouble = store.last_error().unwrap_or_else(|| "no reply".to_owned());
        return Err(RebuildError::Store(trouble));
    }
    let mut rebuilt =
        Rebuilt { brought_in: brought_in(&store, item_id, seeded).await?, ..Rebuilt::default() };
    if let Answer::Stock(levels) = ask(&store, Command::Stock { items: &[item_id] }).await? {
        rebuilt.level = levels.first().copied().flatten();
    }
    let mut reader = TopicReader::open(&endpoints.kafka, &endpoints.orders_topic, WAIT_MAX)?;
    rebuilt.is_whole = reader.is_whole();
    let mut seen = HashSet::new();
    loop {
        let mut orders: Vec<(String, i64)> = Vec::with_capacity(IDS_MAX);
        let is_end = reader.read(|entry| {
            let order = entry.value().and_then(|value| wire::record::decode(value).ok());
            // Replays and retries are the same order again.
            if let Some(order) = order.filter(|order| order.item_id == item_id)
                && seen.insert(order.request_id.to_string())
            {
                orders.push((order.request_id.into_owned(), i64::from(order.amount)));
            }
            if orders.len() < IDS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        count(&store, &orders, dead_lettered, &mut rebuilt).await?;
        if is_end {
            break;
        }
    }
    if apply {
        let units = u64::try_from(rebuilt.left()).unwrap_or(0);
        ask(&store, Command::SetStock { item_id, units }).await?;
    }
    Ok(rebuilt)
}

async fn brought_in(store: &AnyStore, item_id: &str, seeded: Option<u64>) -> Result<i64, RebuildError> {
    if let Some(seeded) = seeded {
        return Ok(i64::try_from(seeded).unwrap_or(i64::MAX));
    }
    match ask(store, Command::Ledgers { items: &[item_id] }).await? {
        Answer::Ledgers(ledgers) => {
            ledgers.first().copied().flatten().map(|ledger| ledger.base).ok_or(RebuildError::NothingBroughtIn)
        }
        _ => Err(RebuildError::Store("unexpected answer".to_owned())),
    }
}

async fn count(
    store: &AnyStore,
    orders: &[(String, i64)],
    dead_lettered: &HashSet<String>,
    rebuilt: &mut Rebuilt,
) -> Result<(), RebuildError> {
    if orders.is_empty() {
        return Ok(());
    }
    let request_ids: Vec<&str> = orders.iter().map(|(id, _)| id.as_str()).collect();
    let Answer::Statuses(statuses) = ask(store, Command::Statuses { request_ids: &request_ids }).await?
    else {
        return Err(RebuildError::Store("unexpected answer".to_owned()));
    };
    for ((id, amount), status) in orders.iter().zip(statuses) {
        rebuilt.orders += 1;
        match status {
            Some(Status::Completed) => rebuilt.sold += amount,
            Some(status) if status.is_final() => {}
            _ if dead_lettered.contains(id) => {}
            _ => rebuilt.taken_as_sold += amount,
        }
    }
    Ok(())
}

async fn ask(store: &AnyStore, command: Command<'_>) -> Result<Answer, RebuildError> {
    store.ask(&command).await.map_err(|error| RebuildError::Store(error.to_string()))
}
