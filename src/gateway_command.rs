//! `flash-sale gateway`

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use gateway::handover::{HEALTHY_TIME_MAX, HandoverListener, Predecessor, Progress};
use gateway::listen::{self, Listening, Origin};
use gateway::{Parts, Running};
use shard::log::{Level, Sink};

use crate::backends::{Backends, level, log_corrected_settings};
use crate::flags::{FAILED, failed, read_settings};
use crate::services::exit_when_unhealable;
use crate::signals::{Cause, Shutdown};
use crate::systemd::{self, State};

/// Interval of readiness checks during startup, and of checks for open connections after a hand-over.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Cores stop accepting within one event loop tick.
const STOP_ACCEPTING_MAX: Duration = Duration::from_secs(1);

/// Runs a gateway until a signal, or until a successor has taken over.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let (settings, notices) = match read_settings(flags, &[], |reader| reader.gateway()) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let shutdown = match Shutdown::new() {
        Ok(shutdown) => shutdown,
        Err(error) => return failed(error),
    };
    let sink = match Sink::start("gateway", level(settings.shared.log_level), std::io::stdout()) {
        Ok((sink, _)) => sink,
        Err(error) => return failed(error),
    };
    log_corrected_settings(&sink, &notices);
    let backends = match Backends::open(&settings.shared, &gateway::run::policy(&settings)) {
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
    // Before sockets are obtained: if the path cannot be bound, the start fails.
    let handover = match settings.handover_socket.as_deref().map(bind_handover).transpose() {
        Ok(handover) => handover,
        Err(reason) => return failed(reason),
    };
    let supervised = match systemd::listeners() {
        Ok(supervised) => supervised,
        Err(reason) => return failed(reason),
    };
    let Listening { sockets, origin } = match listen::obtain(&settings, supervised) {
        Ok(listening) => listening,
        Err(error) => return failed(error),
    };
    let running = match gateway::start_on(&settings, &parts, sockets) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    warn_of_other_address(&sink, settings.listen_addr, &running, &origin);
    let is_supervised = matches!(origin, Origin::Supervisor);
    let has_predecessor = matches!(origin, Origin::Predecessor(_));
    if let Origin::Predecessor(predecessor) = origin {
        if let Err(reason) = take_over(&running, predecessor, handover.as_ref(), &shutdown) {
            return failed(reason);
        }
    } else {
        if let Some(Err(error)) = handover.as_ref().map(HandoverListener::publish) {
            return failed(format_args!("HANDOVER_SOCKET cannot be created: {error}"));
        }
        running.accept();
    }
    sink.line(Level::Info, "gateway_started", "Gateway listening", |line| {
        line.text("listen_addr", &running.address().to_string())
            .text("redis_addr", &settings.shared.redis.to_string())
            .text("kafka_addr", &backends.bootstrap)
            .text("taken_over", if has_predecessor { "yes" } else { "no" });
    });
    if let Some(handover) = handover
        && let Err(error) = serve_successors(&running, handover, &sink, &shutdown)
    {
        return failed(error);
    }
    let cause = systemd::ready_when(&shutdown, || running.is_ready()).unwrap_or_else(|| shutdown.wait());
    stop(running, cause, is_supervised, &settings, &shutdown, &sink)
}

fn bind_handover(path: &Path) -> Result<HandoverListener, String> {
    HandoverListener::bind(path)
        .map_err(|error| format!("HANDOVER_SOCKET {} cannot be created: {error}", path.display()))
}

/// Warns when the sockets taken over listen on another address than `LISTEN_ADDR`.
fn warn_of_other_address(sink: &Sink, wanted: SocketAddr, running: &Running, origin: &Origin) {
    let found = running.address();
    if !matches!(origin, Origin::Predecessor(_)) || wanted.port() == 0 || wanted == found {
        return;
    }
    let message = "LISTEN_ADDR is ignored: the sockets taken over listen on another address";
    sink.line(Level::Warn, "listen_addr_unused", message, |line| {
        line.text("listen_addr", &wanted.to_string()).text("listening_on", &found.to_string());
    });
}

/// Waits until this gateway is healthy, makes the predecessor stop accepting, and then starts accepting.
fn take_over(
    running: &Running,
    mut predecessor: Predecessor,
    handover: Option<&HandoverListener>,
    shutdown: &Shutdown,
) -> Result<(), String> {
    let deadline = Instant::now() + HEALTHY_TIME_MAX;
    while !running.is_ready() {
        if let Some(Cause::Signal(signal)) = shutdown.wait_for(POLL_INTERVAL) {
            return Err(format!(
                "signal {signal} before the hand-over; the running gateway continues to serve"
            ));
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "Redis or Kafka did not answer within {} s; the running gateway continues to serve",
                HEALTHY_TIME_MAX.as_secs()
            ));
        }
    }
    let describe = |error| format!("the running gateway did not hand over: {error}; it continues to serve");
    predecessor.stop_accepting().map_err(describe)?;
    // Before the predecessor closes its own socket: from now on, a successor that connects to the path waits for this gateway.
    if let Some(handover) = handover {
        handover.publish().map_err(|error| format!("HANDOVER_SOCKET cannot be created: {error}"))?;
    }
    predecessor.take().map_err(describe)?;
    running.accept();
    Ok(())
}

fn serve_successors(
    running: &Running,
    handover: HandoverListener,
    sink: &Arc<Sink>,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let (log, sender) = (Arc::clone(sink), shutdown.sender());
    let report = move |progress| match progress {
        Progress::Began => {
            systemd::notify(State::Reloading);
            log.line(Level::Info, "handover_started", "A successor requested the listening sockets", |_| {});
        }
        Progress::Failed(error) => {
            systemd::notify(State::Ready);
            let message = "Hand-over failed; this gateway continues to serve";
            log.line(Level::Warn, "handover_failed", message, |line| {
                line.text("error", &error.to_string());
            });
        }
    };
    running.serve_successors(handover, report, move || {
        // The main thread receives until the process exits.
        let _ = sender.send(Cause::HandedOver);
    })
}

/// Leaves the load balancer (`SHUTDOWN_DELAY`), drains and stops.
fn stop(
    running: Running,
    cause: Cause,
    is_supervised: bool,
    settings: &settings::Gateway,
    shutdown: &Shutdown,
    sink: &Sink,
) -> ExitCode {
    let timeout = settings.shared.shutdown_timeout;
    match cause {
        Cause::Signal(signal) => {
            systemd::notify(State::Stopping);
            sink.line(Level::Info, "gateway_stopping", "Draining", |line| {
                line.number("signal", signal as u64);
            });
            shutdown.begin(settings.shutdown_delay, timeout);
            // New connections wait in the supervisor's sockets for the next gateway; otherwise this gateway would refuse them.
            if is_supervised && !running.stop_accepting(STOP_ACCEPTING_MAX) {
                sink.line(Level::Warn, "accepting_still", "A core did not stop accepting within 1 s", |_| {});
            }
            if !settings.shutdown_delay.is_zero() {
                running.leave();
                shutdown.wait_delay();
            }
        }
        Cause::HandedOver => {
            sink.line(
                Level::Info,
                "gateway_handed_over",
                "Successor is accepting connections; answering the open ones",
                |_| {},
            );
            // Every open connection is closed with its next response. Idle connections stay open for up to
            // SHUTDOWN_TIMEOUT; their orders are still accepted during that time.
            shutdown.begin(timeout, timeout);
            running.leave();
            while running.open_connections() > 0 && !shutdown.is_delay_over() {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }
    let stopped = running.stop_by(shutdown.drain(timeout));
    let (level, message) = if stopped.is_clean {
        (Level::Info, "Shutdown complete: all in-flight orders answered")
    } else {
        (Level::Error, "Orders still in flight at shutdown timeout")
    };
    sink.line(level, "gateway_stopped", message, |_| {});
    sink.flush();
    if stopped.is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
