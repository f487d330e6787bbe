//! Gates that reject orders without a round trip, from what this core already knows. In a sale most requests end here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Maximum items with flags, which is the maximum size of one MGET. An item costs about 150 bytes.
const ITEMS_MAX: usize = 1024;
/// An item without an order for this long is forgotten.
const ITEM_IDLE: Duration = Duration::from_mins(1);
/// Flags older than this are not trusted: Redis has not replied meanwhile.
const FLAGS_AGE_MAX: Duration = Duration::from_secs(1);

/// Which items are sold out, as of the last read of the stock.
#[derive(Debug, Default)]
pub struct SoldOut {
    items: HashMap<String, Item>,
    refreshed: Option<Instant>,
}

#[derive(Debug)]
struct Item {
    is_sold_out: bool,
    asked: Instant,
}

impl SoldOut {
    /// True when the item is known to be sold out. Records the item, so that the next refresh covers it.
    pub fn is_sold_out(&mut self, item_id: &str, now: Instant) -> bool {
        let is_fresh = self.refreshed.is_some_and(|at| now.saturating_duration_since(at) < FLAGS_AGE_MAX);
        if let Some(item) = self.items.get_mut(item_id) {
            item.asked = now;
            return is_fresh && item.is_sold_out;
        }
        if self.items.len() < ITEMS_MAX {
            self.items.insert(item_id.to_owned(), Item { is_sold_out: false, asked: now });
        }
        false
    }

    /// The items to refresh, at most `ITEMS_MAX`; forgets those without recent orders.
    pub fn to_refresh(&mut self, now: Instant) -> Vec<String> {
        self.items.retain(|_, item| now.saturating_duration_since(item.asked) < ITEM_IDLE);
        self.items.keys().cloned().collect()
    }

    /// Updates the flags from stock levels: zero and below is sold out, unknown is not.
    pub fn refresh(&mut self, items: &[String], levels: &[Option<i64>], now: Instant) {
        for (item_id, level) in items.iter().zip(levels) {
            if let Some(item) = self.items.get_mut(item_id) {
                item.is_sold_out = level.is_some_and(|units| units <= 0);
            }
        }
        self.refreshed = Some(now);
    }
}

/// Maximum users remembered as over their limit, at about 120 bytes each.
const USERS_MAX: usize = 65_536;
/// How long a user is rejected without asking Redis: a released admission may allow an order earlier than predicted.
const RECHECK: Duration = Duration::from_secs(1);

/// Which users are over their limit, and until when.
#[derive(Debug, Default)]
pub struct Limited {
    users: HashMap<String, Until>,
}

#[derive(Debug, Clone, Copy)]
struct Until {
    free: Instant,
    recheck: Instant,
}

impl Limited {
    /// How long the user must still wait, if known to be over the limit.
    pub fn remaining_wait(&mut self, user_id: &str, now: Instant) -> Option<Duration> {
        if self.users.is_empty() {
            return None;
        }
        let until = *self.users.get(user_id)?;
        if now < until.recheck.min(until.free) {
            return Some(until.free - now);
        }
        self.users.remove(user_id);
        None
    }

    /// Records that Redis rejected the user for `wait`.
    pub fn refuse(&mut self, user_id: &str, wait: Duration, now: Instant) {
        if self.users.len() >= USERS_MAX {
            self.users.retain(|_, until| now < until.recheck.min(until.free));
        }
        // When the table is full, the next order of that user asks Redis again: slower, but correct.
        if self.users.len() < USERS_MAX {
            self.users.insert(user_id.to_owned(), Until { free: now + wait, recheck: now + RECHECK });
        }
    }

    /// Forgets a user after one of their admissions was released.
    pub fn forget(&mut self, user_id: &str) {
        self.users.remove(user_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sold_out_flag_follows_the_stock_and_expires() {
        let (mut gate, now) = (SoldOut::default(), Instant::now());
        assert!(!gate.is_sold_out("101", now), "unknown before the first refresh");
        let items = gate.to_refresh(now);
        gate.refresh(&items, &[Some(0)], now);
        assert!(gate.is_sold_out("101", now));
        gate.refresh(&items, &[Some(1)], now);
        assert!(!gate.is_sold_out("101", now), "restocked");
        gate.refresh(&items, &[None], now);
        assert!(!gate.is_sold_out("101", now), "unknown is not sold out");
        gate.refresh(&items, &[Some(-1)], now);
        assert!(gate.is_sold_out("101", now));
        assert!(!gate.is_sold_out("101", now + FLAGS_AGE_MAX), "stale flags are not used");
        assert!(gate.to_refresh(now + FLAGS_AGE_MAX + ITEM_IDLE).is_empty());
    }

    #[test]
    fn a_limited_user_is_checked_in_redis_again_after_a_second() {
        let (mut gate, now) = (Limited::default(), Instant::now());
        gate.refuse("u", Duration::from_secs(30), now);
        assert_eq!(gate.remaining_wait("u", now), Some(Duration::from_secs(30)));
        assert_eq!(gate.remaining_wait("v", now), None);
        assert_eq!(gate.remaining_wait("u", now + RECHECK), None);
        gate.refuse("u", Duration::from_millis(5), now);
        assert_eq!(gate.remaining_wait("u", now + Duration::from_millis(5)), None, "free again");
    }
}
