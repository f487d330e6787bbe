//! Tests of the gateway that need no server: one property per file, all in one program, since each program costs a link.

#[path = "../test_gateway/mod.rs"]
mod test_gateway;

mod bounds;
mod breaker_over_kafka;
mod connections_are_shared_out;
mod connections_per_address;
mod equal_ids_at_once;
mod framing;
mod handover;
mod hosts_and_targets;
mod media_types;
mod other_protocols;
mod overload_control;
mod publish_results;
mod replies;
mod shutdown_answers_everyone;
mod sold_out_gate;
mod unknown_fields_are_skipped;
mod waiting_order_knows_the_backlog;
