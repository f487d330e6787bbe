//! One-time conversion of data that version 0.1 left in Redis.

use std::ops::ControlFlow;
use std::time::Duration;

use redis::{Connection, RedisResult};
use wire::names::{LEDGER_PREFIX, TAG_END};

use super::{Server, blocking};

/// Key of the time (Unix milliseconds) before which version 0.1 may have processed a record.
const FENCES_SINCE: &str = "fences_since";
/// Prefix of the ledger keys of version 0.1.
const FORMER_LEDGER_PREFIX: &str = "stock_ledger:";
/// Margin for clock differences between this processor and the gateways. Generous: importing a newer record costs two commands.
const UPGRADE_MARGIN_MS: u64 = 60_000;

/// Version 0.1 may have processed records written before the returned time (Unix milliseconds); they are
/// imported before they are reserved. If Redis has no such time yet, moves the ledgers of 0.1 (a scan of all
/// keys) and stores it. The time is 0 if no ledger exists in the old or new form: 0.1 kept one for each item
/// it sold, so it sold nothing here.
///
/// # Errors
/// If Redis does not answer or refuses a step; the call may be repeated.
pub fn fences_since_ms(server: &Server, timeout: Duration, now_ms: u64) -> Result<u64, String> {
    let step = |step: &'static str| move |error: redis::RedisError| format!("{step}: {error}");
    let mut connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
    let known: Option<u64> =
        redis::cmd("GET").arg(FENCES_SINCE).query(&mut connection).map_err(step("GET fences_since"))?;
    if let Some(known) = known {
        return Ok(known);
    }
    let mut ledgers = 0;
    blocking::walk(&mut connection, FORMER_LEDGER_PREFIX, |connection, keys| {
        // Count ledgers in the new form too: another processor, or an interrupted run of this function, may have moved them.
        ledgers += keys.len();
        for key in keys.iter().filter(|key| !key.starts_with(LEDGER_PREFIX)) {
            move_ledger(connection, key)?;
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(step("move stock ledgers"))?;
    let since_ms = if ledgers == 0 { 0 } else { now_ms + UPGRADE_MARGIN_MS };
    let set: Option<u64> = redis::cmd("SET")
        .arg(FENCES_SINCE)
        .arg(since_ms)
        .arg("NX")
        .arg("GET")
        .query(&mut connection)
        .map_err(step("SET fences_since"))?;
    Ok(set.unwrap_or(since_ms))
}

/// Does nothing if another processor has already moved the ledger. If an operator has already created the new one (`stock set`),
/// adds the old `taken` to its base and taken, which keeps it balanced.
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
