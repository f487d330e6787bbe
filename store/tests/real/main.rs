//! Tests of the store against real services: one property per file, all in one program, since each program costs a link.

#[path = "../world/mod.rs"]
mod world;

mod auth_and_db;
mod concurrent_admissions;
mod concurrent_processing;
mod dropped_futures;
mod equal_ids_one_fresh;
mod hanging_redis;
mod in_flight_bound;
mod late_replies;
mod many_are_as_each;
mod model_equals_redis;
mod noscript_is_healed;
mod one_command_refused;
mod one_flush_a_turn;
mod own_clock;
mod reconnects;
mod server_states;
mod stock_never_negative;
mod works_on_epoll;
