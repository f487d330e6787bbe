//! Which items have stock: the names of `inventory:<item>`, found by walking the keys. No index is kept, because an
//! operator may SET an inventory by hand at any time.
//!
//! Cost: Redis takes about 0.2 ms for a step of [`STEP_KEYS`] keys and serves others between two steps; ten million keys
//! are 10,000 steps.

use std::ops::ControlFlow;
use std::time::Duration;

use redis::RedisResult;
use wire::names::INVENTORY_PREFIX;

use super::{Server, blocking};

/// Keys looked at in one step.
const STEP_KEYS: u32 = 1000;

/// Gives the items of each step to `take`, which may wait, until it breaks or all keys were seen. An item may come twice.
///
/// # Errors
/// When Redis does not answer; what was taken stays valid.
pub fn walk(
    server: &Server,
    timeout: Duration,
    mut take: impl FnMut(Vec<String>) -> ControlFlow<()>,
) -> Result<(), String> {
    let mut connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
    let mut cursor = 0_u64;
    loop {
        let step: RedisResult<(u64, Vec<Vec<u8>>)> = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{INVENTORY_PREFIX}*"))
            .arg("COUNT")
            .arg(STEP_KEYS)
            .query(&mut connection);
        let (next, keys) = step.map_err(|error| error.to_string())?;
        let items = keys.iter().filter_map(|key| {
            let item_id = std::str::from_utf8(key).ok()?.strip_prefix(INVENTORY_PREFIX)?;
            // What no order can name needs no line in the metrics.
            wire::order::check_id(item_id).is_ok().then(|| item_id.to_owned())
        });
        if take(items.collect()).is_break() || next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}
