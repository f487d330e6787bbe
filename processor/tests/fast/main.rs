//! Tests of the processor that need no server: one property per file, all in one program, since each program costs a link.

#[path = "../test_processor/mod.rs"]
mod test_processor;

mod each_order_has_one_end;
mod metrics_page;
mod payment_failure_gives_units_back_once;
mod payment_is_tried_again;
mod poison_goes_to_dlq_once;
mod redelivery_changes_nothing;
mod slow_payment_holds_up_nobody;
mod unknown_item_waits_in_dlq;
