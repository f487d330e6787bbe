//! What version 0.1 left in Redis, brought into today's form once.

use std::ops::ControlFlow;
use std::time::Duration;

use redis::{Connection, RedisResult};
use wire::names::{LEDGER_PREFIX, TAG_END};

use super::{Server, blocking};

/// Key. Records written before this time (Unix milliseconds) may have been processed by version 0.1.
const FENCES_SINCE: &str = "fences_since";
/// Of version 0.1, before the item.
const FORMER_LEDGER_PREFIX: &str = "stock_ledger:";
/// Clocks of gateways and processors may differ by this.
const CLOCK_SKEW_MS_MAX: u64 = 60_000;

/// Records written before this time (Unix milliseconds) may have been processed by version 0.1 and are imported before they are
/// reserved. The first processor on a Redis moves the ledgers, which walks over all keys, and stores the time. It stores 0 if there
/// was no ledger in either form: version 0.1 kept one for each item it had sold, so it never ran here.
///
/// # Errors
/// When Redis does not answer or refuses a step; it may be repeated.
pub fn fences_since_ms(server: &Server, timeout: Duration, now_ms: u64) -> Result<u64, String> {
    let text = |error: redis::RedisError| format!("{FENCES_SINCE}: {error}");
    let mut connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
    let known: Option<u64> = redis::cmd("GET").arg(FENCES_SINCE).query(&mut connection).map_err(text)?;
    if let Some(known) = known {
        return Ok(known);
    }
    let mut ledgers = 0;
    blocking::walk(&mut connection, FORMER_LEDGER_PREFIX, |connection, keys| {
        // One that was moved already says the same: another processor may have done it, or this one before it was cut off.
        ledgers += keys.len();
        for key in keys.iter().filter(|key| !key.starts_with(LEDGER_PREFIX)) {
            move_ledger(connection, key)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(text)?;
    let since_ms = if ledgers == 0 { 0 } else { now_ms + CLOCK_SKEW_MS_MAX };
    let set: Option<u64> = redis::cmd("SET")
        .arg(FENCES_SINCE)
        .arg(since_ms)
        .arg("NX")
        .arg("GET")
        .query(&mut connection)
        .map_err(text)?;
    Ok(set.unwrap_or(since_ms))
}

/// It may be gone when another processor does the same. Where an operator has begun a new one meanwhile, what was taken is added to
/// it, so that it stays balanced.
fn move_ledger(connection: &mut Connection, former: &str) -> RedisResult<()> {
    let item_id = former.strip_prefix(FORMER_LEDGER_PREFIX).unwrap_or(former);
    let ledger = format!("{LEDGER_PREFIX}{item_id}{TAG_END}");
    let moved: RedisResult<u8> = redis::cmd("RENAMENX").arg(former).arg(&ledger).query(connection);
    match moved {
        Ok(0) => {}
        Err(error) if error.to_string().contains("no such key") => return Ok(()),
        moved => return moved.map(drop),
    }
    let taken: Option<i64> = redis::cmd("HGET").arg(former).arg("taken").query(connection)?;
    if redis::cmd("DEL").arg(former).query::<u8>(connection)? == 1 {
        for field in ["base", "taken"] {
            let by = taken.unwrap_or(0);
            redis::cmd("HINCRBY").arg(&ledger).arg(field).arg(by).query::<i64>(connection)?;
        }
    }
    Ok(())
}
