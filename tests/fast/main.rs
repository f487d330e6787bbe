//! Tests of the binary that need no server: one property per file, all in one program, because each program must be linked.

#[path = "../dashboard/mod.rs"]
mod dashboard;

mod command_line;
mod dashboard_is_well_formed;
mod dashboard_shows_every_metric;
mod documented_commands;
mod systemd_protocols;
mod unhealable_dependency_exits_the_process;
