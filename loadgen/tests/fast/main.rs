//! Tests of the load generator that need no server: one property per file, all in one program, since each
//! program costs a link.

#[path = "../target/mod.rs"]
mod target;

mod a_correct_sale_passes;
mod a_failing_target_is_measured;
mod a_restock_is_counted;
mod an_invalid_rule_file_prevents_the_run;
mod audit_over_http;
mod compare_rates_each_number;
mod each_format_can_be_read_back;
mod each_violation_is_found;
mod latency_includes_waiting_for_a_stalled_target;
mod merge_is_lossless;
mod metrics_are_scraped_during_the_run;
mod report_schema_is_stable;
mod report_write_errors_name_a_remedy;
mod scenario_files_are_valid_plans;
mod schedule_is_fixed_by_seed;
