//! Tests of the gateway that need no server: one property per file, all in one program, since each program costs a link.

#[path = "../test_gateway/mod.rs"]
mod test_gateway;

mod a_framing_error_ends_the_connection;
mod a_retry_after_503_is_accepted;
mod breaker_over_kafka;
mod connections_are_balanced;
mod connections_per_address;
mod each_outcome_has_its_response;
mod handover;
mod hosts_and_targets;
mod limits_get_a_response;
mod media_types;
mod one_of_equal_orders_is_accepted;
mod other_protocols;
mod overload_control;
mod pending_order_reports_the_backlog;
mod shutdown_answers_all_orders;
mod sold_out_gate;
mod unknown_fields_are_skipped;
