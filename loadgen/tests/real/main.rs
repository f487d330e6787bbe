//! Tests of the load generator against real services: one property per file, all in one program, since each
//! program costs a link.

#[path = "../target/mod.rs"]
mod target;

mod audit_over_redis;
mod html_report_opens_in_a_browser;
mod own_metrics_satisfy_promtool;
