//! Gateway and processor in one process, as `serve` and `demo` run them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use settings::table::{self, Setting};
use shard::deadline::Deadline;
use shard::log::{Level, Sink};

use crate::backends::{Backends, log_corrected_settings};
use crate::flags::{failed, read_settings};

/// The running services. Fields drop in order: the embedded broker last.
pub(crate) struct Services {
    pub(crate) gateway: gateway::Running,
    pub(crate) processor: processor::Running,
    pub(crate) sink: Arc<Sink>,
    pub(crate) backends: Backends,
    pub(crate) shutdown_timeout: Duration,
}

/// Exits the process when recovery has failed for `DEPENDENCY_HEAL_TIMEOUT`. The reason has been logged by then.
pub(crate) fn exit_when_unhealable(sink: &Arc<Sink>) -> queue::Unhealable {
    let sink = Arc::clone(sink);
    Arc::new(move |_| {
        sink.flush();
        std::process::exit(i32::from(crate::flags::FAILED));
    })
}

/// Defaults that select the embedded store and broker.
pub(crate) const EMBEDDED: [(&Setting, &str); 2] =
    [(&table::REDIS_ADDR, "embedded"), (&table::KAFKA_ADDR, "embedded")];

impl Services {
    /// Starts both services on the same store and broker. `level` is the minimum level logged; `None` means `LOG_LEVEL`.
    pub(crate) fn start(
        flags: &ArgMatches,
        defaults: &[(&Setting, &str)],
        level: Option<Level>,
        out: impl std::io::Write + Send + 'static,
    ) -> Result<Self, ExitCode> {
        let ((for_gateway, mut for_processor), notices) =
            read_settings(flags, defaults, |reader| (reader.gateway(), reader.processor()))?;
        // WORKERS is the number of gateway cores; the processor in the same process has one core.
        for_processor.shared.workers = None;
        let level = level.unwrap_or(crate::backends::level(for_gateway.shared.log_level));
        let (sink, _) = Sink::start("flash-sale", level, out).map_err(failed)?;
        log_corrected_settings(&sink, &notices);
        let backends =
            Backends::open(&for_gateway.shared, &gateway::run::policy(&for_gateway)).map_err(failed)?;
        backends.warn_if_embedded(&sink);
        let processor = processor::start(
            &for_processor,
            &processor::Parts {
                sink: Arc::clone(&sink),
                source: backends.source.clone(),
                kafka_bootstrap: backends.bootstrap.clone(),
                guard: backends.guard(),
                unhealable: exit_when_unhealable(&sink),
            },
        )
        .map_err(failed)?;
        let gateway = gateway::start(
            &for_gateway,
            &gateway::Parts {
                sink: Arc::clone(&sink),
                source: backends.source.clone(),
                kafka_bootstrap: backends.bootstrap.clone(),
                guard: backends.guard(),
                unhealable: exit_when_unhealable(&sink),
            },
        )
        .map_err(failed)?;
        let shutdown_timeout = for_gateway.shared.shutdown_timeout;
        Ok(Self { gateway, processor, sink, backends, shutdown_timeout })
    }

    /// Waits until both services are ready; false if they are not ready within `wait_max`.
    pub(crate) fn is_ready_within(&self, wait_max: Duration) -> bool {
        let deadline = Instant::now() + wait_max;
        while Instant::now() < deadline {
            if self.gateway.is_ready() && self.processor.is_healthy() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Stops the gateway, then the processor, both by `deadline`; true if no order was left in flight.
    pub(crate) fn stop_by(self, deadline: &Deadline) -> bool {
        let is_answered = self.gateway.stop_by(deadline).is_clean;
        let is_finished = self.processor.stop_by(deadline).is_clean;
        self.sink.flush();
        drop(self.backends);
        is_answered && is_finished
    }
}
