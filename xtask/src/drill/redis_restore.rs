//! Redis loses its data after a dump: the dump is restored, and the units sold since are computed from the topic of orders.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::orders_not_processing::sample;
use crate::drill::context::{DrillContext, Service};
use crate::step::Result;

pub(super) const ABOUT: &str = "A dump is made, more units are sold, and Redis is lost with its append-only file. The dump is \
                                restored; the stock after the later sales is rebuilt from Kafka.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    context.transcript().step("The sale is open, with an append-only file");
    context.redis_cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let dir = folder(context)?;
    context.transcript().show_as(&dir.display().to_string(), "/data");
    context.flash_sale(&["stock", "set", "101", "1000"])?;
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    sell(context, &gateway, &processor, "200")?;

    context.transcript().step("Backup");
    context.redis_cli(&["SAVE"]);
    let backup = dir.join("backup.rdb");
    fs::copy(dir.join("dump.rdb"), &backup).map_err(|error| format!("dump.rdb: {error}"))?;
    context.transcript().command("cp /data/dump.rdb backup.rdb", "");
    context.flash_sale(&["stock", "show", "101"])?;
    sell(context, &gateway, &processor, "100")?;
    context.flash_sale(&["stock", "show", "101"])?;

    context.transcript().step("Redis is lost");
    context.end(gateway_process)?;
    context.end(processor_process)?;
    context.transcript().command("kill -KILL <pid of redis>; rm -rf /data/appendonlydir /data/dump.rdb", "");
    context.stage.redis.stop();
    fs::remove_dir_all(dir.join("appendonlydir")).map_err(|error| format!("appendonlydir: {error}"))?;
    fs::remove_file(dir.join("dump.rdb")).map_err(|error| format!("dump.rdb: {error}"))?;

    context.transcript().step("Restore");
    fs::copy(&backup, dir.join("dump.rdb")).map_err(|error| format!("backup.rdb: {error}"))?;
    context.transcript().command("cp backup.rdb /data/dump.rdb; redis-server --appendonly no &", "");
    context.stage.redis.restart();
    context.redis_cli(&["CONFIG", "SET", "appendonly", "yes"]);
    context.redis_cli(&["GET", "inventory:101"]);
    context.transcript().prose(
        "The dump does not contain the last hundred orders, but Kafka does: `stock rebuild` counts every order in the \
         topic once.",
    );
    context.flash_sale(&["stock", "rebuild", "101", "--seeded", "1000"])?;
    context.flash_sale(&["stock", "rebuild", "101", "--seeded", "1000", "--yes"])?;
    context.redis_cli(&["GET", "inventory:101"]);

    context.transcript().step("The sale continues");
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    sell(context, &gateway, &processor, "50")?;
    context.redis_cli(&["GET", "inventory:101"]);
    context.flash_sale(&["stock", "show", "101"])?;

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}

/// The folder with Redis's files.
fn folder(context: &DrillContext) -> Result<PathBuf> {
    let reply = context.stage.redis.call(&["CONFIG", "GET", "dir"]);
    let testkit::redis::Reply::Array(parts) = reply else {
        return Err("CONFIG GET dir returned no array".into());
    };
    let dir =
        parts.into_iter().nth(1).and_then(|part| part.text()).ok_or("CONFIG GET dir returned no folder")?;
    Ok(PathBuf::from(dir))
}

/// Sends `buyers` orders and waits until all are processed.
fn sell(context: &mut DrillContext, gateway: &Service, processor: &Service, buyers: &str) -> Result<()> {
    let before = sample(&processor.get_quietly("/metrics"), "processor_orders_processed_total");
    let target = format!("http://{}", gateway.address);
    let load = ["--buyers", buyers, "--rate", "200", "--no-audit", "--keep-stock"];
    context.flash_sale(&[&["loadgen", "--target", target.as_str()][..], &load].concat())?;
    let wanted = before + buyers.parse::<f64>().unwrap_or(f64::NAN);
    context.wait("they have a final status", Duration::from_mins(1), |_| {
        let ended = sample(&processor.get_quietly("/metrics"), "processor_orders_processed_total");
        Ok(if ended >= wanted { Ok(()) } else { Err(format!("{ended} of {wanted}")) })
    })
}
