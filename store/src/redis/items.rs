//! Lists the items that have stock by scanning for `inventory:<item>` keys. No index is kept, because an
//! operator may SET an inventory by hand at any time.

use std::ops::ControlFlow;
use std::time::Duration;

use wire::names::INVENTORY_PREFIX;

use super::{Server, blocking};

/// Passes the items of each step to `take`, which may wait, until it breaks or all keys were scanned. An item
/// may come twice.
///
/// # Errors
/// If Redis does not answer; items already passed to `take` stay valid.
pub fn walk(
    server: &Server,
    timeout: Duration,
    mut take: impl FnMut(Vec<String>) -> ControlFlow<()>,
) -> Result<(), String> {
    let mut connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
    blocking::walk(&mut connection, INVENTORY_PREFIX, |_, keys| Ok(take(items_of(&keys))))
        .map_err(|error| error.to_string())
}

/// The item ids in inventory keys.
fn items_of(keys: &[String]) -> Vec<String> {
    let items = keys.iter().filter_map(|key| key.strip_prefix(INVENTORY_PREFIX));
    // An item that no order can name needs no metric.
    items.filter(|item_id| wire::order::check_id(item_id).is_ok()).map(str::to_owned).collect()
}
