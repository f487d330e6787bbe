//! What must be left of an item whose stock Redis has lost: what was brought in, less what the log of orders says was
//! sold. For `flash-sale stock rebuild`; blocks, so never on a core.
//!
//! Every order of the item counts once, by its request id:
//! - COMPLETED: sold;
//! - any failed end: not sold;
//! - no end, because its status is lost as well: not sold when it has a dead letter, else taken as sold. That errs to
//!   the side of selling too little: an order that was told it is sold out leaves no letter either.
//!
//! Only at rest: when the group still has orders to end, the answer would be wrong before it is written.

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

/// How long Redis or Kafka may take to answer.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Statuses asked for together.
const IDS_MAX: usize = 1000;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// Statuses and ledger.
    pub source: Source,
    /// The rules of the scripts.
    pub policy: Policy,
    /// Bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
    /// `CONSUMER_GROUP`
    pub group: String,
}

/// What was found, in units unless it says orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Brought in: as given, or by the ledger.
    pub brought_in: i64,
    /// Of COMPLETED orders.
    pub sold: i64,
    /// Of orders whose end is lost and that have no letter.
    pub taken_as_sold: i64,
    /// Orders of the item.
    pub orders: u64,
    /// What is in Redis now; `None` is unknown.
    pub level: Option<i64>,
    /// False when records of the topic were deleted: then what they sold is not known.
    pub is_whole: bool,
}

impl Rebuilt {
    /// What must be left, at least nothing.
    pub fn left(&self) -> i64 {
        (self.brought_in - self.sold - self.taken_as_sold).max(0)
    }
}

/// Why it cannot be told.
#[derive(Debug)]
pub enum RebuildError {
    /// Kafka cannot be read.
    Kafka(AdminError),
    /// Redis cannot be asked.
    Store(String),
    /// Orders are on the road.
    NotAtRest(u64),
    /// Neither a ledger nor a number says what was brought in.
    NothingBroughtIn,
}

impl fmt::Display for RebuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(error) => error.fmt(formatter),
            Self::Store(reason) => write!(formatter, "Redis: {reason}"),
            Self::NotAtRest(lag) => write!(
                formatter,
                "the group has {lag} records to end; wait until a processor has ended them (processor_consumer_lag), \
                 orders of an unknown item become dead letters meanwhile"
            ),
            Self::NothingBroughtIn => formatter.write_str(
                "the ledger of the item is lost as well; say how many units were brought in: --seeded UNITS",
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

/// Computes it; `seeded` is what was brought in, where no ledger says so. `apply` also sets it.
///
/// # Errors
/// [`RebuildError`]; nothing was changed then.
pub fn rebuild(
    places: &Places,
    item_id: &str,
    seeded: Option<u64>,
    apply: bool,
) -> Result<Rebuilt, RebuildError> {
    check_rest(places)?;
    let lettered = lettered(places)?;
    let mut found = Err(RebuildError::Store("not asked".to_owned()));
    launch::run(0, None, |_| async {
        found = walk(places, item_id, seeded, &lettered, apply).await;
    })
    .map_err(|error| RebuildError::Store(error.to_string()))?;
    found
}

fn check_rest(places: &Places) -> Result<(), RebuildError> {
    let ends = Depth::open(&places.kafka, WAIT_MAX)?.watermarks(&places.orders_topic)?;
    let group = Group::open(&places.kafka, &places.group, WAIT_MAX)?;
    let committed = group.committed(&places.orders_topic, &ends)?;
    let lag: i64 =
        ends.iter().zip(committed).map(|(marks, done)| (marks.high - done.unwrap_or(marks.low)).max(0)).sum();
    if lag > 0 { Err(RebuildError::NotAtRest(lag as u64)) } else { Ok(()) }
}

/// Request ids that have a dead letter.
fn lettered(places: &Places) -> Result<HashSet<String>, RebuildError> {
    let mut ids = HashSet::new();
    TopicReader::open(&places.kafka, &places.dlq_topic, WAIT_MAX)?.read(|entry| {
        let header = entry.header(c"request_id").map(|id| String::from_utf8_lossy(id).into_owned());
        let of_value = || Some(wire::record::decode(entry.value()?).ok()?.request_id.into_owned());
        ids.extend(header.or_else(of_value));
        ControlFlow::Continue(())
    })?;
    Ok(ids)
}

async fn walk(
    places: &Places,
    item_id: &str,
    seeded: Option<u64>,
    lettered: &HashSet<String>,
    apply: bool,
) -> Result<Rebuilt, RebuildError> {
    let store = places.source.open(&places.policy, 16);
    if let AnyStore::Redis(connection) = &store
        && !connection.reachable_within(WAIT_MAX).await
    {
        let trouble = store.trouble().unwrap_or_else(|| "it does not answer".to_owned());
        return Err(RebuildError::Store(trouble));
    }
    let mut rebuilt =
        Rebuilt { brought_in: brought_in(&store, item_id, seeded).await?, ..Rebuilt::default() };
    if let Answer::Stock(levels) = ask(&store, Command::Stock { items: &[item_id] }).await? {
        rebuilt.level = levels.first().copied().flatten();
    }
    let mut reader = TopicReader::open(&places.kafka, &places.orders_topic, WAIT_MAX)?;
    rebuilt.is_whole = reader.is_whole();
    let mut seen = HashSet::new();
    loop {
        let mut orders: Vec<(String, i64)> = Vec::with_capacity(IDS_MAX);
        let is_end = reader.read(|entry| {
            let order = entry.value().and_then(|value| wire::record::decode(value).ok());
            // A replay and a retry are the same order again.
            if let Some(order) = order.filter(|order| order.item_id == item_id)
                && seen.insert(order.request_id.to_string())
            {
                orders.push((order.request_id.into_owned(), i64::from(order.amount)));
            }
            if orders.len() < IDS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        count(&store, &orders, lettered, &mut rebuilt).await?;
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
        _ => Err(RebuildError::Store("an unexpected answer".to_owned())),
    }
}

async fn count(
    store: &AnyStore,
    orders: &[(String, i64)],
    lettered: &HashSet<String>,
    rebuilt: &mut Rebuilt,
) -> Result<(), RebuildError> {
    if orders.is_empty() {
        return Ok(());
    }
    let request_ids: Vec<&str> = orders.iter().map(|(id, _)| id.as_str()).collect();
    let Answer::Statuses(statuses) = ask(store, Command::Statuses { request_ids: &request_ids }).await?
    else {
        return Err(RebuildError::Store("an unexpected answer".to_owned()));
    };
    for ((id, amount), status) in orders.iter().zip(statuses) {
        rebuilt.orders += 1;
        match status {
            Some(Status::Completed) => rebuilt.sold += amount,
            Some(end) if end.is_end() => {}
            _ if lettered.contains(id) => {}
            _ => rebuilt.taken_as_sold += amount,
        }
    }
    Ok(())
}

async fn ask(store: &AnyStore, command: Command<'_>) -> Result<Answer, RebuildError> {
    store.ask(&command).await.map_err(|error| RebuildError::Store(error.to_string()))
}
