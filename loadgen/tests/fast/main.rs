//! Tests of the load generator that need no server: one property per file, all in one program, since each program costs a link.

#[path = "../target/mod.rs"]
mod target;

mod a_full_disk_is_named;
mod a_restock_is_in_the_books;
mod a_stall_counts_for_every_buyer;
mod a_target_that_fails_is_measured;
mod a_wrong_rule_file_is_named;
mod an_alert_needs_its_for;
mod answers_at_every_split;
mod audit_over_http;
mod compare_says_worse;
mod expressions_mean_what_prometheus_means;
mod honest_sale_passes;
mod ledger_remembers;
mod merge_is_lossless;
mod output_forms;
mod planted_faults_are_named;
mod report_forms;
mod run_is_scraped_through;
mod scenarios_are_plans;
mod schedule_is_fixed_by_seed;
