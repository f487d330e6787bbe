//! Grows Redis's hash tables to the size that a sale will need, before the sale.
//!
//! Redis doubles its table of keys, and a second table of keys with a time to live, when the number of keys
//! reaches the number of slots. While it moves the entries, every command takes two to three times as long:
//! seconds at some million keys. The presizer writes placeholder keys at a bounded rate so that the tables
//! grow in advance, and then deletes most of them. Redis shrinks a table only when few of its slots are used
//! (10 % in Redis 7.0, 12.5 % from 7.4 on: `dict.c`, `HASHTABLE_MIN_FILL`), so `KEPT_PERCENT` stay.
//! Placeholders expire after the sale; `Presizer::undo` removes them at once.
//!
//! The key `STATE_KEY` records which placeholders may exist, so that an interrupted run can be repeated or
//! undone.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, Value};

use super::{Server, blocking};

/// Maximum keys per order: its status, and the rate limit of its user in the current window. Fences share
/// buckets.
const KEYS_PER_ORDER: u64 = 2;
/// Share of the slots that stay filled with placeholders: above the 12.5 % at which newer versions shrink a
/// table.
const KEPT_PERCENT: u64 = 13;
/// Keys beyond the number that makes a table grow, so that the last growth certainly happens.
const MARGIN_KEYS: u64 = 1000;
/// Placeholders per request: about 1 ms of Redis's time, 2 ms while it moves entries.
const BATCH_KEYS: u64 = 200;
/// Placeholders per EXISTS request: about half a millisecond of Redis's time.
const COUNTED_KEYS: u64 = 1000;
/// Interval of progress reports.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// Placeholders expire spread over this time after their minimum lifetime, not all at once.
const EXPIRY_SPREAD_S: u64 = 3600;
/// Bytes of a placeholder that is in both tables: an entry of 24 bytes in each, key, value object (Redis 7.0,
/// `MEMORY USAGE`).
const PLACEHOLDER_BYTES: u64 = 120;
/// Bytes of a slot in both tables, plus half as much for the former, smaller tables during a move.
const SLOT_BYTES: u64 = 24;

const PREFIX: &str = "prepare:";
/// The highest number of a placeholder that may exist, plus one.
const STATE_KEY: &str = "prepare:state";

/// Current contents of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// Keys of the database, not counting placeholders.
    pub keys: u64,
    /// Keys with a time to live, not counting placeholders.
    pub expiring: u64,
    /// Placeholders of earlier runs.
    pub placeholders: u64,
    /// Slots of the smaller of the two tables; `None` if this version of Redis reports it in an unknown form.
    pub slots: Option<u64>,
    /// Bytes in use.
    pub used_bytes: u64,
    /// `maxmemory`, or the machine's memory when it is 0.
    pub limit_bytes: u64,
}

/// Plan of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Slots that both tables will have.
    pub slots: u64,
    /// Placeholders to write, including existing ones, whose time to live is renewed.
    pub written: u64,
    /// Placeholders that stay.
    pub kept: u64,
    /// Bytes in use after all placeholders are written.
    pub peak_bytes: u64,
}

impl Plan {
    /// Plans for this many orders in addition to the existing keys.
    pub fn new(tables: &Tables, orders: u64) -> Self {
        let more = orders.saturating_mul(KEYS_PER_ORDER);
        let slots = (tables.keys.saturating_add(more) + 1).next_power_of_two();
        // The table with fewer keys needs more of them to grow.
        let keys = tables.keys.min(tables.expiring);
        // Larger tables of an earlier run must not shrink either.
        let largest = slots.max(tables.slots.unwrap_or(0));
        let kept = (largest * KEPT_PERCENT / 100).saturating_sub(keys);
        let growing = if largest > slots || tables.slots == Some(slots) {
            0
        } else {
            (slots / 2 + MARGIN_KEYS).saturating_sub(keys)
        };
        let written = growing.max(kept);
        let used = tables.used_bytes.saturating_sub(tables.placeholders * PLACEHOLDER_BYTES);
        let peak_bytes = used + written.max(tables.placeholders) * PLACEHOLDER_BYTES + slots * SLOT_BYTES;
        Self { slots, written, kept, peak_bytes }
    }
}

/// How a run finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The run is complete.
    Done,
    /// The run was interrupted: the same command continues it, `undo` removes the placeholders.
    Interrupted,
}

/// Called about once a second with the activity, the amount done and the total; false interrupts the run.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64) -> bool;

/// Connection for presizing. It blocks, so it must not be used on a core.
pub struct Presizer {
    connection: Connection,
    db: u32,
    /// Maximum keys per second.
    rate: u64,
}

impl Presizer {
    /// Connects. `rate` is the maximum number of keys written or deleted per second, at least 1.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub fn open(server: &Server, rate: u64, timeout: Duration) -> Result<Self, String> {
        let connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
        Ok(Self { connection, db: server.db, rate: rate.max(1) })
    }

    /// Reads the current contents of Redis.
    ///
    /// # Errors
    /// If Redis does not answer, or forbids INFO.
    pub fn tables(&mut self) -> Result<Tables, String> {
        let info = self.info()?;
        let number = |name: &str| -> u64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let placeholders = self.placeholders()?;
        let limit = match number("maxmemory") {
            0 => number("total_system_memory"),
            bytes => bytes,
        };
        Ok(Tables {
            keys: self.count(&info, "keys").saturating_sub(placeholders),
            expiring: self.count(&info, "expires").saturating_sub(placeholders),
            placeholders,
            slots: self.slots()?,
            used_bytes: number("used_memory"),
            limit_bytes: limit,
        })
    }

    fn info(&mut self) -> Result<String, String> {
        redis::cmd("INFO").query(&mut self.connection).map_err(|error| error.to_string())
    }

    /// A count of this database from the section Keyspace; 0 if the database is empty.
    fn count(&self, info: &str, name: &str) -> u64 {
        let database = format!("db{}:", self.db);
        let counts = info.lines().find_map(|line| line.strip_prefix(database.as_str()));
        let mut pairs = counts.unwrap_or_default().trim().split(',').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(key, _)| *key == name);
        value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    /// Slots of the smaller table, from the sizes of both in `MEMORY STATS`. Redis counts 8 bytes per slot,
    /// 24 per key, and 16 more for the object of a key in the main table (7.0 to 7.4,
    /// `getMemoryOverheadData`). For a version that counts differently the result is no valid table size.
    fn slots(&mut self) -> Result<Option<u64>, String> {
        let info = self.info()?;
        let (keys, expiring) = (self.count(&info, "keys"), self.count(&info, "expires"));
        let stats: HashMap<String, Value> = redis::cmd("MEMORY")
            .arg("STATS")
            .query(&mut self.connection)
            .map_err(|error| error.to_string())?;
        let Some(database) = stats.get(&format!("db.{}", self.db)) else {
            return Ok(Some(0).filter(|_| keys == 0));
        };
        let database: HashMap<String, u64> =
            redis::from_redis_value_ref(database).map_err(|e| e.to_string())?;
        let table = |name: &str, used: u64| slots_of(database.get(name)?.checked_sub(used)? / 8);
        let main = table("overhead.hashtable.main", keys * 40);
        let expires = table("overhead.hashtable.expires", expiring * 24);
        Ok(main.zip(expires).map(|(main, expires)| main.min(expires)))
    }

    /// Number of existing placeholders: some may have expired, and an interrupted run did not write or delete
    /// all.
    fn placeholders(&mut self) -> Result<u64, String> {
        let to = self.state()?.unwrap_or(0);
        let (mut at, mut found) = (0, 0);
        while at < to {
            let next = (at + COUNTED_KEYS).min(to);
            let mut command = redis::cmd("EXISTS");
            for number in at..next {
                command.arg(format!("{PREFIX}{number}"));
            }
            let there: u64 = command.query(&mut self.connection).map_err(|error| error.to_string())?;
            (at, found) = (next, found + there);
        }
        Ok(found)
    }

    /// Writes and deletes placeholders as planned. They expire after `keep`, spread over one more hour.
    ///
    /// # Errors
    /// If Redis fails or refuses a request; the same command continues the run.
    pub fn grow(
        &mut self,
        plan: &Plan,
        keep: Duration,
        progress: Progress<'_>,
    ) -> Result<Completion, String> {
        let takes = Duration::from_secs_f64(plan.written as f64 / self.rate as f64);
        if keep < takes * 2 {
            return Err(format!(
                "placeholders would expire while they are written, which takes {takes:.0?}: keep them longer"
            ));
        }
        // Placeholders of an earlier run are overwritten, or deleted together with those of this run.
        let all = plan.written.max(self.state()?.unwrap_or(0));
        self.note_state(all)?;
        let ended =
            self.in_batches("writing placeholders", 0, plan.written, progress, |batch, from, to| {
                for number in from..to {
                    let ttl_s = keep.as_secs() + number % EXPIRY_SPREAD_S;
                    batch
                        .cmd("SET")
                        .arg(format!("{PREFIX}{number}"))
                        .arg(1)
                        .arg("EX")
                        .arg(ttl_s.max(1))
                        .ignore();
                }
            })?;
        if ended == Completion::Interrupted {
            return Ok(ended);
        }
        if self.wait_until_grown(plan.slots, progress)? == Completion::Interrupted {
            return Ok(Completion::Interrupted);
        }
        let ended = self.delete("deleting placeholders", plan.kept, all, progress)?;
        if ended == Completion::Done {
            self.note_state(plan.kept)?;
        }
        Ok(ended)
    }

    /// Waits until the tables have grown, at most a minute: Redis does not grow them while it writes a
    /// snapshot.
    fn wait_until_grown(&mut self, slots: u64, progress: Progress<'_>) -> Result<Completion, String> {
        let begun = Instant::now();
        loop {
            let now = self.slots()?;
            if now.is_none_or(|now| now >= slots) {
                return Ok(Completion::Done);
            }
            if !progress("waiting for the tables", 0, slots) {
                return Ok(Completion::Interrupted);
            }
            if begun.elapsed() > Duration::from_mins(1) {
                return Err(format!(
                    "the tables have {} slots instead of {slots}; is Redis writing a snapshot (INFO persistence)? Repeat the \
                     command when it has ended",
                    now.unwrap_or(0)
                ));
            }
            // Writing and deleting a key makes a table grow as soon as Redis allows it.
            let key = format!("{PREFIX}grow");
            redis::cmd("SET")
                .arg(&key)
                .arg(1)
                .arg("EX")
                .arg(1)
                .exec(&mut self.connection)
                .map_err(|error| error.to_string())?;
            redis::cmd("UNLINK").arg(&key).exec(&mut self.connection).map_err(|error| error.to_string())?;
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Removes every placeholder; Redis then shrinks its tables by itself. Returns how many existed.
    ///
    /// # Errors
    /// As [`Presizer::grow`].
    pub fn undo(&mut self, progress: Progress<'_>) -> Result<(Completion, u64), String> {
        let Some(to) = self.state()? else { return Ok((Completion::Done, 0)) };
        let there = self.placeholders()?;
        let ended = self.delete("deleting placeholders", 0, to, progress)?;
        if ended == Completion::Done {
            redis::cmd("DEL").arg(STATE_KEY).exec(&mut self.connection).map_err(|error| error.to_string())?;
        }
        Ok((ended, there))
    }

    fn delete(
        &mut self,
        what: &str,
        from: u64,
        to: u64,
        progress: Progress<'_>,
    ) -> Result<Completion, String> {
        self.in_batches(what, from, to, progress, |batch, from, to| {
            let command = batch.cmd("UNLINK");
            for number in from..to {
                command.arg(format!("{PREFIX}{number}"));
            }
            command.ignore();
        })
    }

    /// Sends requests for `from..to`, no faster than the rate.
    fn in_batches(
        &mut self,
        what: &str,
        from: u64,
        to: u64,
        progress: Progress<'_>,
        fill: impl Fn(&mut redis::Pipeline, u64, u64),
    ) -> Result<Completion, String> {
        let begun = Instant::now();
        let mut noted = begun;
        let mut at = from;
        while at < to {
            let next = (at + BATCH_KEYS).min(to);
            let mut batch = redis::pipe();
            fill(&mut batch, at, next);
            batch.exec(&mut self.connection).map_err(|error| error.to_string())?;
            at = next;
            let due = begun + Duration::from_secs_f64((at - from) as f64 / self.rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if noted.elapsed() >= NOTE_INTERVAL {
                noted = Instant::now();
                if !progress(what, at - from, to - from) {
                    return Ok(Completion::Interrupted);
                }
            }
        }
        progress(what, to - from, to - from);
        Ok(Completion::Done)
    }

    /// The highest number of a placeholder that may exist, plus one.
    fn state(&mut self) -> Result<Option<u64>, String> {
        redis::cmd("GET").arg(STATE_KEY).query(&mut self.connection).map_err(|error| error.to_string())
    }

    /// Stores the state without a time to live, so that `undo` finds all placeholders whatever theirs is.
    fn note_state(&mut self, to: u64) -> Result<(), String> {
        redis::cmd("SET").arg(STATE_KEY).arg(to).exec(&mut self.connection).map_err(|error| error.to_string())
    }

    /// Redis's clock minus the local clock, in milliseconds; the accuracy is limited by the round trip.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub fn clock_offset_ms(&mut self) -> Result<i64, String> {
        let sent = Instant::now();
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query(&mut self.connection).map_err(|error| error.to_string())?;
        let there_ms = seconds * 1000 + micros / 1000 + (sent.elapsed() / 2).as_millis() as i64;
        Ok(there_ms - shard::clock::unix_ms() as i64)
    }
}

/// The current or target size of a table, from the sum of its slots: while Redis moves entries, a table also
/// has its former slots, half as many if it grows. `None` if the sum is not of this form.
fn slots_of(sum: u64) -> Option<u64> {
    if sum == 0 {
        return Some(0);
    }
    let larger = 1 << sum.ilog2();
    match sum - larger {
        0 => Some(larger),
        half if half == larger / 2 => Some(larger),
        smaller if smaller.is_power_of_two() => Some(smaller),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: Tables =
        Tables { keys: 0, expiring: 0, placeholders: 0, slots: Some(0), used_bytes: 0, limit_bytes: 0 };

    #[test]
    fn the_plan_sizes_the_tables_for_all_keys_of_the_sale() {
        let plan = Plan::new(&EMPTY, 5_000_000);
        assert_eq!(plan.slots, 1 << 24);
        assert_eq!(plan.written, (1 << 23) + MARGIN_KEYS);
        assert!(plan.kept * 8 > plan.slots, "more than 12.5 % stay");
        let full = Tables { keys: 4_000_000, expiring: 3_000_000, slots: Some(1 << 22), ..EMPTY };
        let plan = Plan::new(&full, 5_000_000);
        assert_eq!((plan.slots, plan.written), (1 << 24, (1 << 23) + MARGIN_KEYS - 3_000_000));
    }

    #[test]
    fn the_size_of_a_table_is_computed_while_it_grows_or_shrinks() {
        assert_eq!(slots_of(0), Some(0));
        assert_eq!(slots_of(1 << 20), Some(1 << 20));
        assert_eq!(slots_of((1 << 20) + (1 << 19)), Some(1 << 20), "grows");
        assert_eq!(slots_of((1 << 20) + 4), Some(4), "shrinks");
        assert_eq!(slots_of((1 << 20) + 5), None, "not a valid sum");
    }

    #[test]
    fn tables_that_are_large_enough_keep_their_size() {
        let kept = (1 << 24) * KEPT_PERCENT / 100;
        for placeholders in [0, 3_000_000, 8_400_000] {
            let sized = Tables { placeholders, slots: Some(1 << 24), ..EMPTY };
            let plan = Plan::new(&sized, 5_000_000);
            assert_eq!(
                (plan.written, plan.kept),
                (kept, kept),
                "kept placeholders are renewed, the others deleted"
            );
            // Fewer orders than in the last run.
            let plan = Plan::new(&sized, 100_000);
            assert_eq!((plan.slots, plan.written, plan.kept), (1 << 18, kept, kept));
        }
    }
}
