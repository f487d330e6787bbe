//! Tests of the gateway against real services: one property per file, all in one program, since each program costs a link.

#[path = "../test_gateway/mod.rs"]
mod test_gateway;

mod late_redis_reply;
mod panic_costs_one_connection;
mod redis_outage;
