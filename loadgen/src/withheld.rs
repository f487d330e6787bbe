//! Checks that a single shard cannot judge.

use report::{Check, CheckState, Shard};

use crate::counters::{OF_GATEWAY, OF_PROCESSOR};

/// Checks that only make sense for all orders of a run: units, and the target's counters, which count the
/// orders of every generator.
const OF_THE_WHOLE: [&str; 7] = [
    "no_oversell",
    "units_add_up",
    "no_undersell",
    OF_GATEWAY[0],
    OF_GATEWAY[1],
    OF_PROCESSOR[0],
    OF_PROCESSOR[1],
];

/// Marks these checks of a shard as not judged. A metrics page that could not be read stays a failure.
pub(crate) fn withhold(checks: &mut [Check], shard: Shard) {
    if shard.is_whole() {
        return;
    }
    let is_unreadable = |check: &Check| check.state == CheckState::Fail && check.value.is_none();
    let withheld = |check: &&mut Check| OF_THE_WHOLE.contains(&check.name.as_str()) && !is_unreadable(check);
    for check in checks.iter_mut().filter(withheld) {
        check.state = CheckState::NotJudged;
        check.value = None;
        check.detail = format!("shard {shard} has only its own orders; judged when the reports are merged");
    }
}
