//! `flash-sale processor`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use processor::Parts;
use shard::log::{Level, Sink};

use crate::flags::{FAILED, failed, read_settings};
use crate::places::{Places, announce_notices, level, model_policy};
use crate::services::exit_when_unhealable;
use crate::signals::{Cause, Ending};
use crate::systemd::{self, State};

/// Runs a processor until a signal.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let (settings, notices) = match read_settings(flags, &[], |reader| reader.processor()) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let ending = match Ending::new() {
        Ok(ending) => ending,
        Err(error) => return failed(error),
    };
    let sink = match Sink::start("processor", level(settings.shared.log_level), std::io::stdout()) {
        Ok((sink, _)) => sink,
        Err(error) => return failed(error),
    };
    announce_notices(&sink, &notices);
    let places = match Places::open(&settings.shared, &model_policy(&settings.shared)) {
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
    let running = match processor::start(&settings, &parts) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    sink.line(Level::Info, "processor_started", "The processor works", |line| {
        line.text("metrics_addr", &running.metrics_addr().to_string())
            .text("redis_addr", &settings.shared.redis.to_string())
            .text("kafka_addr", &places.bootstrap);
    });
    let cause = systemd::ready_when(&ending, || running.is_healthy()).unwrap_or_else(|| ending.wait());
    systemd::notify(State::Stopping);
    sink.line(Level::Info, "processor_stopping", "Draining", |line| {
        if let Cause::Signal(signal) = cause {
            line.number("signal", signal as u64);
        }
    });
    let timeout = settings.shared.shutdown_timeout;
    ending.begin(Duration::ZERO, timeout);
    let stopped = running.stop_by(ending.drain(timeout));
    let message =
        if stopped.is_clean { "Every order begun has its end" } else { "Orders were left to the next owner" };
    sink.line(
        if stopped.is_clean { Level::Info } else { Level::Error },
        "processor_stopped",
        message,
        |_| {},
    );
    sink.flush();
    if stopped.is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
