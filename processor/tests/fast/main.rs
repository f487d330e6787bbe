//! Tests of the processor without servers. One property per file; all in one binary, because linking each
//! binary takes time.

#[path = "../test_processor/mod.rs"]
mod test_processor;

mod declined_payment_is_retried;
mod each_order_has_one_final_status;
mod failed_payment_releases_units_once;
mod metrics_and_health_endpoints;
mod poison_goes_to_dlq_once;
mod redelivery_changes_nothing;
mod slow_payment_delays_no_other_order;
mod unknown_item_waits_in_dlq;
