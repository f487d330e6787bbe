//! `flash-sale gateway`

use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use gateway::Parts;
use shard::log::{Level, Sink};

use crate::flags::{FAILED, failed, read_settings};
use crate::house::exit_when_unhealable;
use crate::places::{Places, announce_notices, level};
use crate::signals::Ending;

/// Runs a gateway until a signal.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let (settings, notices) = match read_settings(flags, &[], |reader| reader.gateway()) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let ending = match Ending::new() {
        Ok(ending) => ending,
        Err(error) => return failed(error),
    };
    let sink = match Sink::start("gateway", level(settings.shared.log_level), std::io::stdout()) {
        Ok((sink, _)) => sink,
        Err(error) => return failed(error),
    };
    announce_notices(&sink, &notices);
    let places = match Places::open(&settings.shared, &gateway::run::policy(&settings)) {
        Ok(places) => places,
        Err(error) => return failed(error),
    };
    places.announce(&sink);
    let parts = Parts {
        sink: Arc::clone(&sink),
        source: places.source.clone(),
        kafka_bootstrap: places.bootstrap.clone(),
        guard: places.guard(),
        unhealable: exit_when_unhealable(&sink),
    };
    let running = match gateway::start(&settings, &parts) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    sink.line(Level::Info, "gateway_started", "The gateway listens", |line| {
        line.text("listen_addr", &running.address().to_string())
            .text("redis_addr", &settings.shared.redis.to_string())
            .text("kafka_addr", &places.bootstrap);
    });
    let signal = ending.wait();
    sink.line(Level::Info, "gateway_stopping", "Draining", |line| {
        line.number("signal", signal as u64);
    });
    if !settings.shutdown_delay.is_zero() {
        running.leave();
        std::thread::sleep(settings.shutdown_delay);
    }
    let stopped = running.stop(settings.shared.shutdown_timeout);
    let message =
        if stopped.is_clean { "Every order had its answer" } else { "Orders were left on the road" };
    sink.line(if stopped.is_clean { Level::Info } else { Level::Error }, "gateway_stopped", message, |_| {});
    sink.flush();
    if stopped.is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
