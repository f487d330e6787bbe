//! Tests of the store that need no server: one property per file, all in one program, since each program costs a link.

#[macro_use]
#[path = "../world/mod.rs"]
mod world;

mod bad_peers;
mod memory_forgets_on_time;
mod one_end;
mod rate_limit_exact;
mod release_gives_back;
mod status_follows_fence;
mod take_over;
