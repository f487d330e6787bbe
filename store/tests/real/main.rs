//! Tests of the store against real services: one property per file, all in one binary, because each binary
//! has to be linked.

#[path = "../harness/mod.rs"]
mod harness;

mod a_slow_admission_takes_nothing_over;
mod auth_and_db;
mod concurrent_admissions;
mod concurrent_processing;
mod dropped_futures;
mod equal_ids_are_admitted_once;
mod grouped_equals_one_by_one;
mod hanging_redis;
mod in_flight_bound;
mod late_replies;
mod limits_use_redis_clock;
mod missing_scripts_are_reloaded;
mod model_equals_redis;
mod one_flush_per_tick;
mod reconnects;
mod refused_command_fails_alone;
mod server_states;
mod stock_never_negative;
mod works_on_epoll;
