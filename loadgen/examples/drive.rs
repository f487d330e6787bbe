//! Sends load to a target and prints rates, latencies and the generator's own CPU cost; no audit.
//!
//! `cargo run --release -p loadgen --example drive -- 127.0.0.1:8080 RATE BUYERS CONNECTIONS [closed]`

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use audit::AuditSource;
use loadgen::Plan;
use loadgen::progress::Quiet;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(plan) = plan(&args) else {
        eprintln!("usage: drive ADDRESS RATE BUYERS CONNECTIONS [closed]");
        return ExitCode::from(2);
    };
    match loadgen::run(&plan, &AuditSource::None, Quiet, &Arc::new(AtomicBool::new(false))) {
        Ok(report) => {
            println!(
                "asked {:.0}/s offered {:.0}/s achieved {:.0}/s in {:.2} s, driver {}, cpu {:.2} us/request",
                report.asked_rate,
                report.offered_rate,
                report.achieved_rate,
                report.duration_s,
                report.generator.driver,
                report.generator.cpu_us_per_request.unwrap_or(f64::NAN),
            );
            println!("busy {:?} starved {:?}", report.generator.busy_share, report.generator.starved_share);
            println!("lateness {:?}", report.generator.lateness_ms);
            println!("connection wait {:?}", report.generator.connection_wait_ms);
            for (outcome, of) in &report.outcomes {
                println!("{outcome}: {} intended {:?}", of.count, of.latency_ms);
                println!("{outcome}: {} from send {:?}", of.count, of.from_send_ms);
            }
            ExitCode::from(report.verdict.exit_code())
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(args: &[String]) -> Option<Plan> {
    let (address, numbers) = args.split_first()?;
    let mut plan = Plan::new(address.parse().ok()?);
    plan.rate_per_s = numbers.first()?.parse().ok()?;
    plan.buyers = numbers.get(1)?.parse().ok()?;
    plan.connections = numbers.get(2)?.parse().ok()?;
    plan.closed = numbers.get(3).is_some_and(|word| word == "closed");
    plan.gateway_metrics = false;
    Some(plan)
}
