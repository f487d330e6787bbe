//! Which letters are settled, in Redis, beside the truth about their orders.
//!
//! Keys, all without a life of their own:
//! - `dlq_handled:<topic>:<partition>`: a bitmap by offset, 1 for a letter that was replayed or purged. A bit costs
//!   nothing beside the letter it stands for: a million letters of a partition are 125 KB;
//! - `dlq_doubt:<topic>`: a hash of the letters that are on their way back at this moment, `<partition>/<offset>` to
//!   the ends of `orders` before they were sent (`<partition>:<offset> …`). At most one chunk of a replay;
//! - `dlq_lock:<topic>`: the run that replays or purges now; lives for [`LOCK_MS`] unless it is renewed.
//!
//! When Redis has lost its data the marks are gone with it: the dead letters are open again. Replayed again they change
//! no order whose status Redis still has as COMPLETED, since the scripts fence by attempt.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use queue::admin::Watermarks;
use redis::{
    Commands as _, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, Script,
};
use settings::RedisAddress;

use crate::letter::Place;

/// How long a lock lives without being renewed. Longer than the longest chunk of a replay, which librdkafka gives up
/// after its message time-out.
pub const LOCK_MS: u64 = 30_000;

/// Redis could not be asked, or does not hold what it should.
#[derive(Debug)]
pub struct MarksError(String);

impl fmt::Display for MarksError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the marks of dead letters in Redis: {}", self.0)
    }
}

impl std::error::Error for MarksError {}

impl From<RedisError> for MarksError {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

/// Of one partition: letters without a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// The partition.
    pub partition: i32,
    /// The first of them; the end of the partition when there is none.
    pub first: i64,
    /// How many.
    pub count: u64,
}

/// Letters that a replay was killed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The letters.
    pub places: Vec<Place>,
    /// By partition of `orders`: where its end was before the first of them was sent.
    pub orders_ends: HashMap<i32, i64>,
}

/// The marks of one topic of dead letters.
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

/// A blocking connection for command lines and threads of their own; every question waits at most `timeout`.
///
/// # Errors
/// When Redis is embedded in another process, or cannot be reached in time.
pub fn connect(address: &RedisAddress, timeout: Duration) -> Result<redis::Connection, RedisError> {
    let RedisAddress::Server { host, port, user, password, db } = address else {
        let kind = redis::ErrorKind::InvalidClientConfig;
        return Err((kind, "REDIS_ADDR is embedded: nothing outlives the process that has it").into());
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
    /// Connects; every question waits at most `timeout`.
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

    /// The open letters of each partition, between its watermarks.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub fn open_letters(&mut self, watermarks: &[Watermarks]) -> Result<Vec<Open>, MarksError> {
        let mut open = Vec::with_capacity(watermarks.len());
        for marks in watermarks {
            let mut call = self.count_open.key(self.handled_key(marks.partition));
            let (count, first): (u64, i64) =
                call.arg(marks.low).arg(marks.high).invoke(&mut self.connection)?;
            open.push(Open { partition: marks.partition, first, count });
        }
        Ok(open)
    }

    /// All marks of these partitions, to be asked letter by letter.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub fn handled(&mut self, partitions: impl Iterator<Item = i32>) -> Result<Handled, MarksError> {
        let mut bitmaps = HashMap::new();
        for partition in partitions {
            let bits: Option<Vec<u8>> = self.connection.get(self.handled_key(partition))?;
            bitmaps.insert(partition, bits.unwrap_or_default());
        }
        Ok(Handled(bitmaps))
    }

    /// Takes or keeps the right to settle letters; false when another run has it.
    ///
    /// # Errors
    /// When Redis cannot be asked.
    pub fn lock(&mut self, run: &str) -> Result<bool, MarksError> {
        let key = self.lock_key();
        Ok(self.extend.key(key).arg(run).arg(LOCK_MS).invoke(&mut self.connection)?)
    }

    /// Gives that right back.
    ///
    /// # Errors
    /// When Redis cannot be asked; it then ends by itself.
    pub fn unlock(&mut self, run: &str) -> Result<(), MarksError> {
        let key = self.lock_key();
        Ok(self.unlock.key(key).arg(run).invoke(&mut self.connection)?)
    }

    /// What the last replay left on its way.
    ///
    /// # Errors
    /// When Redis cannot be asked, or something else lies in the hash.
    pub fn doubts(&mut self) -> Result<Doubts, MarksError> {
        let fields: HashMap<String, String> = self.connection.hgetall(self.doubt_key())?;
        let wrong = |text: &str| MarksError(format!("{} holds {text:?}", self.doubt_key()));
        let mut doubts = Doubts::default();
        for (place, ends) in fields {
            let parsed = place.split_once('/').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
            let (partition, offset) = parsed.ok_or_else(|| wrong(&place))?;
            doubts.places.push(Place { partition, offset });
            for end in ends.split_ascii_whitespace() {
                let parsed = end.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
                let (partition, end): (i32, i64) = parsed.ok_or_else(|| wrong(&ends))?;
                let first = doubts.orders_ends.entry(partition).or_insert(end);
                *first = end.min(*first);
            }
        }
        doubts.places.sort_unstable();
        Ok(doubts)
    }

    /// Writes down that these letters are on their way; `orders_ends` is where `orders` ended before.
    ///
    /// # Errors
    /// When Redis cannot be asked: then nothing may be sent.
    pub fn doubt(&mut self, places: &[Place], orders_ends: &[Watermarks]) -> Result<(), MarksError> {
        if places.is_empty() {
            return Ok(());
        }
        let ends: Vec<String> =
            orders_ends.iter().map(|marks| format!("{}:{}", marks.partition, marks.high)).collect();
        let ends = ends.join(" ");
        let fields: Vec<(String, &str)> =
            places.iter().map(|place| (place.to_string(), ends.as_str())).collect();
        Ok(self.connection.hset_multiple(self.doubt_key(), &fields)?)
    }

    /// In one step: `handled` get their mark, and neither they nor `back` are on their way any more.
    ///
    /// # Errors
    /// When Redis cannot be asked: the letters stay in doubt, and the next replay finds out.
    pub fn settle(&mut self, handled: &[Place], back: &[Place]) -> Result<(), MarksError> {
        let mut steps = redis::pipe();
        steps.atomic();
        for place in handled {
            steps.setbit(self.handled_key(place.partition), place.offset as usize, true).ignore();
        }
        for place in handled.iter().chain(back) {
            steps.hdel(self.doubt_key(), place.to_string()).ignore();
        }
        Ok(steps.query(&mut self.connection)?)
    }
}

/// Marks as they were when they were read.
#[derive(Debug, Clone, Default)]
pub struct Handled(HashMap<i32, Vec<u8>>);

impl Handled {
    /// Whether a letter has its mark.
    pub fn has(&self, place: Place) -> bool {
        let byte = self.0.get(&place.partition).and_then(|bits| bits.get(place.offset as usize / 8));
        // The first bit of a byte is its highest (SETBIT of Redis).
        byte.is_some_and(|byte| byte & (0x80 >> (place.offset % 8)) != 0)
    }
}
