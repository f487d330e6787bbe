//! `flash-sale serve`: gateway and processor in one process, to try with curl.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use shard::log::Level;
use store::Command;

use crate::flags::{FAILED, failed};
use crate::services::{EMBEDDED, Services};
use crate::signals::Shutdown;

/// How long to wait for Redis and Kafka.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Runs both until a signal.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let shutdown = match Shutdown::new() {
        Ok(shutdown) => shutdown,
        Err(error) => return failed(error),
    };
    let item = flags.get_one::<String>("item").cloned().unwrap_or_default();
    let stock = flags.get_one::<u64>("stock").copied().unwrap_or_default();
    if let Err(message) = wire::order::check_id(&item) {
        return failed(format!("--item {item:?} {message}"));
    }
    let services = match Services::start(flags, &EMBEDDED, None, std::io::stdout()) {
        Ok(services) => services,
        Err(code) => return code,
    };
    if let store::open::Source::Memory(memory) = &services.backends.source
        && let Err(error) = memory.apply(&Command::SetStock { item_id: &item, units: stock })
    {
        return failed(error);
    }
    if !services.is_ready_within(WAIT_MAX) {
        services.sink.line(
            Level::Warn,
            "not_ready",
            "Redis or Kafka is not reachable yet; see /health",
            |_| {},
        );
    }
    let address = services.gateway.address();
    eprintln!(
        "gateway   http://{address}\nprocessor http://{}/metrics\n\nTry:\n  curl -i http://{address}/buy -H 'Content-Type: \
         application/json' -d '{{\"user_id\":\"u1\",\"item_id\":\"{item}\",\"amount\":1,\"request_id\":\"r-1\"}}'\n  \
         curl http://{address}/orders/r-1\n\nPress Ctrl-C to stop.",
        services.processor.metrics_addr()
    );
    shutdown.wait();
    let timeout = services.shutdown_timeout;
    shutdown.begin(Duration::ZERO, timeout);
    if services.stop_by(shutdown.drain(timeout)) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
