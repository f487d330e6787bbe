//! Tests of the store that need no server: one property per file, all in one binary, because each binary has
//! to be linked.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod a_peer_that_is_not_redis_is_unreachable;
mod memory_entries_expire_on_time;
mod one_final_status;
mod rate_limit_is_exact;
mod release_undoes_admission;
mod status_follows_fence;
mod takeover;
