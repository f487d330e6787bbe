//! Tests of the gateway against real services: one property per file, all in one program, since each program costs a link.

#[path = "../test_gateway/mod.rs"]
mod test_gateway;

mod late_redis_reply_fails_one_order;
mod orders_recover_from_redis_outage;
mod panic_costs_one_connection;
