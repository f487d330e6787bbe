//! Tests of the processor with real services. One property per file; all in one binary, because linking each
//! binary takes time.

#[path = "../test_processor/mod.rs"]
mod test_processor;

mod largest_record_is_dead_lettered;
mod lost_refund_reply_still_writes_dead_letter;
mod orders_lost_by_redis_are_processed_again;
mod processing_resumes_after_kafka_restart;
mod promtool_accepts_metrics_page;
mod redis_outage_pauses_processing;
mod upgrade_from_0_1;
mod wrong_type_is_redis_failure;
