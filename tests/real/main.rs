//! Tests of the binary against real services: one property per file, all in one program, because each program must be linked.

#[path = "../process/mod.rs"]
mod process;

#[path = "../compose/mod.rs"]
mod compose;

#[path = "../dashboard/mod.rs"]
mod dashboard;

mod blocked_event_loop;
mod clock_steps;
mod compose_services_run;
mod crash_between_any_two_stages;
mod dashboard_queries_return_data;
mod dead_letters_are_replayed_once;
mod dead_letters_keep_headers;
mod dependency_failures_are_reported;
mod kafka_losses_are_recovered_from;
mod kills_leave_one_final_status_per_order;
mod lost_records_are_reported;
mod prepare_is_safe_to_repeat;
mod processor_stopped_past_its_session;
mod prometheus_accepts_the_deployment;
mod shutdown_ends_whatever_hangs;
mod sigterm_loses_nothing;
mod startup_checks_warn;
mod stock_is_rebuilt;
mod stock_is_shown_from_the_first_scrape;
mod stopped_gateway_acknowledges_once;
mod topics_get_their_partitions;
mod zero_downtime_restart;
