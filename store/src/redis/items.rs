//! Which items have stock: the names of `inventory:<item>`, found by walking the keys. No index is kept, because an
//! operator may SET an inventory by hand at any time.

use std::ops::ControlFlow;
use std::time::Duration;

use wire::names::INVENTORY_PREFIX;

use super::{Server, blocking};

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
    blocking::walk(&mut connection, INVENTORY_PREFIX, |_, keys| Ok(take(items_of(&keys))))
        .map_err(|error| error.to_string())
}

/// The items of inventory keys.
fn items_of(keys: &[String]) -> Vec<String> {
    let items = keys.iter().filter_map(|key| key.strip_prefix(INVENTORY_PREFIX));
    // What no order can name needs no line in the metrics.
    items.filter(|item_id| wire::order::check_id(item_id).is_ok()).map(str::to_owned).collect()
}
