//! The tests of this crate, one property per file.

mod rules_find_built_in_bugs;
mod rules_hold_in_small_configurations;
