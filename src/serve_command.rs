//! `flash-sale serve`: gateway and processor in one process, for trying with curl.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use shard::log::Level;
use store::Command;

use crate::flags::{FAILED, failed};
use crate::house::{EMBEDDED, House};
use crate::signals::Ending;

/// How long Redis and Kafka may take to be there.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Runs both until a signal.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let ending = match Ending::new() {
        Ok(ending) => ending,
        Err(error) => return failed(error),
    };
    let item = flags.get_one::<String>("item").cloned().unwrap_or_default();
    let stock = flags.get_one::<u64>("stock").copied().unwrap_or_default();
    if let Err(message) = wire::order::check_id(&item) {
        return failed(format!("--item {item:?} {message}"));
    }
    let house = match House::start(flags, &EMBEDDED, None, std::io::stdout()) {
        Ok(house) => house,
        Err(code) => return code,
    };
    if let store::open::Source::Memory(memory) = &house.places.source
        && let Err(error) = memory.apply(&Command::SetStock { item_id: &item, units: stock })
    {
        return failed(error);
    }
    if !house.is_ready_within(WAIT_MAX) {
        house.sink.line(Level::Warn, "not_ready", "Redis or Kafka is not there yet; see /health", |_| {});
    }
    let address = house.gateway.address();
    eprintln!(
        "gateway   http://{address}\nprocessor http://{}/metrics\n\nTry:\n  curl -i http://{address}/buy -H 'Content-Type: \
         application/json' -d '{{\"user_id\":\"u1\",\"item_id\":\"{item}\",\"amount\":1,\"request_id\":\"r-1\"}}'\n  \
         curl http://{address}/orders/r-1\n\nCtrl-C ends it.",
        house.processor.metrics_addr()
    );
    ending.wait();
    let timeout = house.shutdown_timeout;
    ending.begin(Duration::ZERO, timeout);
    if house.stop_by(ending.drain(timeout)) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
