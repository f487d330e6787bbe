//! Counts the units that orders hold according to their fences. For audits: it reads every fence.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use redis::{Connection, RedisResult};
use wire::names::{FENCE_PREFIX, TAG_END};

use super::{Server, blocking};

/// Fences per `HSCAN` call.
const STEP_FENCES: u32 = 1000;

/// Units held of each item that has held units. Not a consistent snapshot while orders are processed.
///
/// # Errors
/// If Redis does not answer.
pub fn held_units(server: &Server, timeout: Duration) -> Result<HashMap<String, i64>, String> {
    let mut connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
    // By bucket, because a scan may return a key twice.
    let mut buckets: HashMap<String, i64> = HashMap::new();
    blocking::walk(&mut connection, FENCE_PREFIX, |connection, keys| {
        for key in keys {
            let units = held_in(connection, &key)?;
            if units != 0 {
                buckets.insert(key, units);
            }
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(|error| error.to_string())?;
    let mut items: HashMap<String, i64> = HashMap::new();
    for (key, units) in buckets {
        let item_id = key.strip_prefix(FENCE_PREFIX).and_then(|rest| Some(rest.rsplit_once(TAG_END)?.0));
        if let Some(item_id) = item_id {
            *items.entry(item_id.to_owned()).or_default() += units;
        }
    }
    Ok(items)
}

fn held_in(connection: &mut Connection, key: &str) -> RedisResult<i64> {
    let mut fences: HashMap<Vec<u8>, i64> = HashMap::new();
    let mut cursor = 0_u64;
    loop {
        let (next, pairs): (u64, Vec<(Vec<u8>, String)>) =
            redis::cmd("HSCAN").arg(key).arg(cursor).arg("COUNT").arg(STEP_FENCES).query(connection)?;
        fences.extend(pairs.into_iter().filter_map(|(id, fence)| Some((id, amount_of(&fence)?))));
        cursor = next;
        if cursor == 0 {
            return Ok(fences.values().sum());
        }
    }
}

/// The amount in "H <attempt> <amount>" (`reserve.lua`).
fn amount_of(fence: &str) -> Option<i64> {
    fence.strip_prefix("H ")?.split_once(' ')?.1.parse().ok()
}
