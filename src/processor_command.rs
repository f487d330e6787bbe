//! `flash-sale processor`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use processor::Parts;
use shard::log::{Level, Sink};

use crate::backends::{Backends, level, log_corrected_settings, policy_without_admissions};
use crate::flags::{FAILED, failed, read_settings};
use crate::services::exit_when_unhealable;
use crate::signals::{Cause, Shutdown};
use crate::systemd::{self, State};

/// Runs a processor until a signal.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let (settings, notices) = match read_settings(flags, &[], |reader| reader.processor()) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let shutdown = match Shutdown::new() {
        Ok(shutdown) => shutdown,
        Err(error) => return failed(error),
    };
    let sink = match Sink::start("processor", level(settings.shared.log_level), std::io::stdout()) {
        Ok((sink, _)) => sink,
        Err(error) => return failed(error),
    };
    log_corrected_settings(&sink, &notices);
    let backends = match Backends::open(&settings.shared, &policy_without_admissions(&settings.shared)) {
        Ok(backends) => backends,
        Err(error) => return failed(error),
    };
    backends.warn_if_embedded(&sink);
    let parts = Parts {
        sink: Arc::clone(&sink),
        source: backends.source.clone(),
        kafka_bootstrap: backends.bootstrap.clone(),
        guard: backends.guard(),
        unhealable: exit_when_unhealable(&sink),
    };
    let running = match processor::start(&settings, &parts) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    sink.line(Level::Info, "processor_started", "Processor running", |line| {
        line.text("metrics_addr", &running.metrics_addr().to_string())
            .text("redis_addr", &settings.shared.redis.to_string())
            .text("kafka_addr", &backends.bootstrap);
    });
    let cause = systemd::ready_when(&shutdown, || running.is_healthy()).unwrap_or_else(|| shutdown.wait());
    systemd::notify(State::Stopping);
    sink.line(Level::Info, "processor_stopping", "Draining", |line| {
        if let Cause::Signal(signal) = cause {
            line.number("signal", signal as u64);
        }
    });
    let timeout = settings.shared.shutdown_timeout;
    shutdown.begin(Duration::ZERO, timeout);
    let stopped = running.stop_by(shutdown.drain(timeout));
    let message = if stopped.is_clean {
        "Shutdown complete: all started orders finished"
    } else {
        "Unfinished orders left for the next partition owner"
    };
    sink.line(
        if stopped.is_clean { Level::Info } else { Level::Error },
        "processor_stopped",
        message,
        |_| {},
    );
    sink.flush();
    if stopped.is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
