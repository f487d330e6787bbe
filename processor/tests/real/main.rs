//! Tests of the processor against real services: one property per file, all in one program, since each program costs a link.

#[path = "../test_processor/mod.rs"]
mod test_processor;

mod kafka_restart;
mod largest_record_is_buried;
mod metrics_page_is_accepted;
mod redis_away_pauses;
mod redis_loses_its_last_writes;
mod refund_without_an_answer;
mod upgrade_from_0_1;
mod wrong_type_is_redis_failure;
