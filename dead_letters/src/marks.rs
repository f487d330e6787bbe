//! Marks in Redis for dead letters that were replayed or purged.
//!
//! Keys; only the lock expires:
//! - `dlq_handled:<topic>:<partition>`: a bitmap by offset, 1 for a dead letter that was replayed or purged.
//!   A bit is negligible next to the dead letter itself: a million dead letters of a partition take 125 KB;
//! - `dlq_doubt:<topic>`: a hash of the dead letters in doubt, that is, being sent back at this moment. It
//!   maps `<partition>/<offset>` to the end offsets of `orders` before they were sent
//!   (`<partition>:<offset> …`). It holds at most one chunk of a replay;
//! - `dlq_lock:<topic>`: the id of the run that is replaying or purging; expires after `LOCK_MS` unless it
//!   is renewed.
//!
//! If Redis loses its data, the marks are lost too and the dead letters are open again. Replaying them again
//! does not change an order that is still COMPLETED in Redis, because the scripts fence by attempt.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use queue::admin::Watermarks;
use redis::{
    Commands as _, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, Script,
};
use settings::RedisAddress;

use crate::dead_letter::Position;

/// Expiry of the lock unless it is renewed. Longer than the longest chunk of a replay, which is limited by
/// librdkafka's message timeout.
pub const LOCK_MS: u64 = 30_000;

/// A Redis query failed, or a key has unexpected contents.
#[derive(Debug)]
pub struct MarksError(String);

impl fmt::Display for MarksError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "dead letter marks in Redis: {}", self.0)
    }
}

impl std::error::Error for MarksError {}

impl From<RedisError> for MarksError {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

/// Open dead letters (without a mark) of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// The partition.
    pub partition: i32,
    /// Offset of the first one; the end of the partition if there is none.
    pub first: i64,
    /// Number of them.
    pub count: u64,
}

/// Dead letters of a killed replay that may or may not have been sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InDoubt {
    /// Their positions.
    pub positions: Vec<Position>,
    /// End offset of each `orders` partition before the first of them was sent.
    pub orders_ends: HashMap<i32, i64>,
}

/// The marks of one dead letter topic.
pub struct Marks {
    connection: redis::Connection,
    topic: String,
    count_open: Script,
    extend: Script,
    unlock: Script,
}

impl fmt::Debug for Marks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Marks").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Opens a blocking connection, for command-line tools and dedicated threads; each query waits at most
/// `timeout`.
///
/// # Errors
/// When Redis is embedded, or cannot be reached in time.
pub fn connect(address: &RedisAddress, timeout: Duration) -> Result<redis::Connection, RedisError> {
    let RedisAddress::Server { host, port, user, password, db } = address else {
        let kind = redis::ErrorKind::InvalidClientConfig;
        return Err((kind, "REDIS_ADDR is embedded: its data exists only inside its own process").into());
    };
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(*db));
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let address = ConnectionAddr::Tcp(host.clone(), *port).into_connection_info()?;
    let client = redis::Client::open(address.set_redis_settings(settings))?;
    let connection = client.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

impl Marks {
    /// Connects; each query waits at most `timeout`.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn open(address: &RedisAddress, topic: &str, timeout: Duration) -> Result<Self, MarksError> {
        Ok(Self {
            connection: connect(address, timeout)?,
            topic: topic.to_owned(),
            count_open: Script::new(include_str!("count_open.lua")),
            extend: Script::new(include_str!("extend_lock.lua")),
            unlock: Script::new(include_str!("unlock.lua")),
        })
    }

    fn handled_key(&self, partition: i32) -> String {
        format!("dlq_handled:{}:{partition}", self.topic)
    }

    fn doubt_key(&self) -> String {
        format!("dlq_doubt:{}", self.topic)
    }

    fn lock_key(&self) -> String {
        format!("dlq_lock:{}", self.topic)
    }

    /// The open dead letters of each partition, between its watermarks.
    ///
    /// # Errors
    /// When the Redis query fails.
    pub fn open_dead_letters(&mut self, watermarks: &[Watermarks]) -> Result<Vec<Open>, MarksError> {
        let mut open = Vec::with_capacity(watermarks.len());
        for partition in watermarks {
            let mut call = self.count_open.key(self.handled_key(partition.partition));
            let (count, first): (u64, i64) =
                call.arg(partition.low).arg(partition.high).invoke(&mut self.connection)?;
            open.push(Open { partition: partition.partition, first, count });
        }
        Ok(open)
    }

    /// Reads all marks of these partitions at once.
    ///
    /// # Errors
    /// When the Redis query fails.
    pub fn handled(&mut self, partitions: impl Iterator<Item = i32>) -> Result<Handled, MarksError> {
        let mut bitmaps = HashMap::new();
        for partition in partitions {
            let bits: Option<Vec<u8>> = self.connection.get(self.handled_key(partition))?;
            bitmaps.insert(partition, bits.unwrap_or_default());
        }
        Ok(Handled(bitmaps))
    }

    /// Acquires or renews the lock for replaying and purging; false if another run holds it.
    ///
    /// # Errors
    /// When the Redis query fails.
    pub fn lock(&mut self, run: &str) -> Result<bool, MarksError> {
        let key = self.lock_key();
        Ok(self.extend.key(key).arg(run).arg(LOCK_MS).invoke(&mut self.connection)?)
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// When the Redis query fails; the lock then expires.
    pub fn unlock(&mut self, run: &str) -> Result<(), MarksError> {
        let key = self.lock_key();
        Ok(self.unlock.key(key).arg(run).invoke(&mut self.connection)?)
    }

    /// The dead letters that the last replay left in doubt.
    ///
    /// # Errors
    /// When the Redis query fails, or the hash has unexpected contents.
    pub fn in_doubt(&mut self) -> Result<InDoubt, MarksError> {
        let fields: HashMap<String, String> = self.connection.hgetall(self.doubt_key())?;
        let wrong =
            |text: &str| MarksError(format!("{} has an unexpected entry: {text:?}", self.doubt_key()));
        let mut in_doubt = InDoubt::default();
        for (position, ends) in fields {
            let parsed = position.split_once('/').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
            let (partition, offset) = parsed.ok_or_else(|| wrong(&position))?;
            in_doubt.positions.push(Position { partition, offset });
            for end in ends.split_ascii_whitespace() {
                let parsed = end.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
                let (partition, end): (i32, i64) = parsed.ok_or_else(|| wrong(&ends))?;
                let first = in_doubt.orders_ends.entry(partition).or_insert(end);
                *first = end.min(*first);
            }
        }
        in_doubt.positions.sort_unstable();
        Ok(in_doubt)
    }

    /// Records that these dead letters are about to be sent; `orders_ends` are the end offsets of `orders`
    /// before that.
    ///
    /// # Errors
    /// When the Redis query fails; the dead letters must then not be sent.
    pub fn mark_in_doubt(
        &mut self,
        positions: &[Position],
        orders_ends: &[Watermarks],
    ) -> Result<(), MarksError> {
        if positions.is_empty() {
            return Ok(());
        }
        let ends: Vec<String> =
            orders_ends.iter().map(|marks| format!("{}:{}", marks.partition, marks.high)).collect();
        let ends = ends.join(" ");
        let fields: Vec<(String, &str)> =
            positions.iter().map(|position| (position.to_string(), ends.as_str())).collect();
        Ok(self.connection.hset_multiple(self.doubt_key(), &fields)?)
    }

    /// In one transaction: sets the marks of `handled`, and removes `handled` and `back` from those in doubt.
    ///
    /// # Errors
    /// When the Redis query fails; the dead letters stay in doubt, and the next replay resolves them.
    pub fn settle(&mut self, handled: &[Position], back: &[Position]) -> Result<(), MarksError> {
        let mut steps = redis::pipe();
        steps.atomic();
        for position in handled {
            steps.setbit(self.handled_key(position.partition), position.offset as usize, true).ignore();
        }
        for position in handled.iter().chain(back) {
            steps.hdel(self.doubt_key(), position.to_string()).ignore();
        }
        Ok(steps.query(&mut self.connection)?)
    }
}

/// A snapshot of the marks.
#[derive(Debug, Clone, Default)]
pub struct Handled(HashMap<i32, Vec<u8>>);

impl Handled {
    /// Whether a dead letter has a mark.
    pub fn has(&self, position: Position) -> bool {
        let byte = self.0.get(&position.partition).and_then(|bits| bits.get(position.offset as usize / 8));
        // Redis's SETBIT counts from the most significant bit of each byte.
        byte.is_some_and(|byte| byte & (0x80 >> (position.offset % 8)) != 0)
    }
}
