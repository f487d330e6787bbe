//! `flash-sale gateway`

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use gateway::handover::{Door, HEALTHY_TIME_MAX, Predecessor, Progress};
use gateway::listen::{self, Listening, Origin};
use gateway::{Parts, Running};
use shard::log::{Level, Sink};

use crate::flags::{FAILED, failed, read_settings};
use crate::places::{Places, announce_notices, level};
use crate::services::exit_when_unhealable;
use crate::signals::{Cause, Ending};
use crate::systemd::{self, State};

/// How often a start looks whether Redis and Kafka are there.
const LOOK: Duration = Duration::from_millis(10);
/// Cores that are told to stop accepting do so within a turn.
const STOP_ACCEPTING_MAX: Duration = Duration::from_secs(1);

/// Runs a gateway until a signal, or until a successor has taken over.
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
    // Before anybody is asked for sockets: a path that cannot be bound is an error of the start.
    let door = match settings.handover_socket.as_deref().map(bind_door).transpose() {
        Ok(door) => door,
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
        if let Err(reason) = take_over(&running, predecessor, door.as_ref(), &ending) {
            return failed(reason);
        }
    } else {
        if let Some(Err(error)) = door.as_ref().map(Door::publish) {
            return failed(format_args!("HANDOVER_SOCKET cannot be made: {error}"));
        }
        running.accept();
    }
    sink.line(Level::Info, "gateway_started", "Gateway listening", |line| {
        line.text("listen_addr", &running.address().to_string())
            .text("redis_addr", &settings.shared.redis.to_string())
            .text("kafka_addr", &places.bootstrap)
            .text("taken_over", if has_predecessor { "yes" } else { "no" });
    });
    if let Some(door) = door
        && let Err(error) = serve_successors(&running, door, &sink, &ending)
    {
        return failed(error);
    }
    let cause = systemd::ready_when(&ending, || running.is_ready()).unwrap_or_else(|| ending.wait());
    stop(running, cause, is_supervised, &settings, &ending, &sink)
}

fn bind_door(path: &Path) -> Result<Door, String> {
    Door::bind(path).map_err(|error| format!("HANDOVER_SOCKET {} cannot be made: {error}", path.display()))
}

/// Sockets that were given to us listen where they listen.
fn warn_of_other_address(sink: &Sink, wanted: SocketAddr, running: &Running, origin: &Origin) {
    let found = running.address();
    if !matches!(origin, Origin::Predecessor(_)) || wanted.port() == 0 || wanted == found {
        return;
    }
    let message = "LISTEN_ADDR is not used: the sockets taken over listen elsewhere";
    sink.line(Level::Warn, "listen_addr_unused", message, |line| {
        line.text("listen_addr", &wanted.to_string()).text("listening_on", &found.to_string());
    });
}

/// Waits until this gateway is healthy, then lets the predecessor stop accepting and accepts itself.
fn take_over(
    running: &Running,
    mut predecessor: Predecessor,
    door: Option<&Door>,
    ending: &Ending,
) -> Result<(), String> {
    let deadline = Instant::now() + HEALTHY_TIME_MAX;
    while !running.is_ready() {
        if let Some(Cause::Signal(signal)) = ending.wait_for(LOOK) {
            return Err(format!("signal {signal} before the hand-over; the running gateway goes on serving"));
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "Redis or Kafka did not answer within {} s; the running gateway goes on serving",
                HEALTHY_TIME_MAX.as_secs()
            ));
        }
    }
    let told = |error| format!("the running gateway did not hand over: {error}; it goes on serving");
    predecessor.stop_accepting().map_err(told)?;
    // Before it closes its own: whoever asks at the path from now on waits for this gateway.
    if let Some(door) = door {
        door.publish().map_err(|error| format!("HANDOVER_SOCKET cannot be made: {error}"))?;
    }
    predecessor.take().map_err(told)?;
    running.accept();
    Ok(())
}

fn serve_successors(running: &Running, door: Door, sink: &Arc<Sink>, ending: &Ending) -> std::io::Result<()> {
    let (log, sender) = (Arc::clone(sink), ending.sender());
    let tell = move |progress| match progress {
        Progress::Began => {
            systemd::notify(State::Reloading);
            log.line(Level::Info, "handover_started", "A successor asked for the listening sockets", |_| {});
        }
        Progress::Failed(error) => {
            systemd::notify(State::Ready);
            let message = "The hand-over failed; this gateway goes on serving";
            log.line(Level::Warn, "handover_failed", message, |line| {
                line.text("error", &error.to_string());
            });
        }
    };
    running.serve_successors(door, tell, move || {
        // The main thread is there until the process ends.
        let _ = sender.send(Cause::HandedOver);
    })
}

/// Leaves, drains and ends.
fn stop(
    running: Running,
    cause: Cause,
    is_supervised: bool,
    settings: &settings::Gateway,
    ending: &Ending,
    sink: &Sink,
) -> ExitCode {
    let timeout = settings.shared.shutdown_timeout;
    match cause {
        Cause::Signal(signal) => {
            systemd::notify(State::Stopping);
            sink.line(Level::Info, "gateway_stopping", "Draining", |line| {
                line.number("signal", signal as u64);
            });
            ending.begin(settings.shutdown_delay, timeout);
            // Connections wait in the supervisor's sockets for the next gateway instead of being refused by this one.
            if is_supervised && !running.stop_accepting(STOP_ACCEPTING_MAX) {
                sink.line(Level::Warn, "accepting_still", "A core did not stop accepting in time", |_| {});
            }
            if !settings.shutdown_delay.is_zero() {
                running.leave();
                ending.wait_delay();
            }
        }
        Cause::HandedOver => {
            sink.line(
                Level::Info,
                "gateway_handed_over",
                "A successor accepts; answering open connections",
                |_| {},
            );
            // Every open connection is closed with its next answer. Those that stay idle have as long as a drain may
            // take; no order of theirs is refused meanwhile.
            ending.begin(timeout, timeout);
            running.leave();
            while running.open_connections() > 0 && !ending.is_delay_over() {
                std::thread::sleep(LOOK);
            }
        }
    }
    let stopped = running.stop_by(ending.drain(timeout));
    let (level, message) = if stopped.is_clean {
        (Level::Info, "Shutdown complete: all in-flight orders answered")
    } else {
        (Level::Error, "Orders still in flight at shutdown timeout")
    };
    sink.line(level, "gateway_stopped", message, |_| {});
    sink.flush();
    if stopped.is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
