//! Redis is lost after a dump: the dump is put back, and what was sold since then is worked out from the log of orders.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::orders_not_processing::sample;
use crate::drill::scene::{Part, Scene};
use crate::step::Result;

pub(super) const ABOUT: &str = "A dump is made, more is sold, Redis is lost with its append-only file. The dump is restored; \
                                the stock of what was sold since is rebuilt from Kafka.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    scene.transcript().step("The sale is open, with an append-only file");
    scene.redis_cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let dir = folder(scene)?;
    scene.transcript().show_as(&dir.display().to_string(), "/data");
    scene.flash_sale(&["stock", "set", "101", "1000"])?;
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    sell(scene, &gateway, &processor, "200")?;

    scene.transcript().step("Backup");
    scene.redis_cli(&["SAVE"]);
    let backup = dir.join("backup.rdb");
    fs::copy(dir.join("dump.rdb"), &backup).map_err(|error| format!("dump.rdb: {error}"))?;
    scene.transcript().command("cp /data/dump.rdb backup.rdb", "");
    scene.flash_sale(&["stock", "show", "101"])?;
    sell(scene, &gateway, &processor, "100")?;
    scene.flash_sale(&["stock", "show", "101"])?;

    scene.transcript().step("Redis is lost");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)?;
    scene.transcript().command("kill -KILL <pid of redis>; rm -rf /data/appendonlydir /data/dump.rdb", "");
    scene.stage.redis.stop();
    fs::remove_dir_all(dir.join("appendonlydir")).map_err(|error| format!("appendonlydir: {error}"))?;
    fs::remove_file(dir.join("dump.rdb")).map_err(|error| format!("dump.rdb: {error}"))?;

    scene.transcript().step("Restore");
    fs::copy(&backup, dir.join("dump.rdb")).map_err(|error| format!("backup.rdb: {error}"))?;
    scene.transcript().command("cp backup.rdb /data/dump.rdb; redis-server --appendonly no &", "");
    scene.stage.redis.restart();
    scene.redis_cli(&["CONFIG", "SET", "appendonly", "yes"]);
    scene.redis_cli(&["GET", "inventory:101"]);
    scene.transcript().prose(
        "The dump knows nothing of the last hundred orders, but Kafka does: `stock rebuild` counts every order of the \
         log once.",
    );
    scene.flash_sale(&["stock", "rebuild", "101", "--seeded", "1000"])?;
    scene.flash_sale(&["stock", "rebuild", "101", "--seeded", "1000", "--yes"])?;
    scene.redis_cli(&["GET", "inventory:101"]);

    scene.transcript().step("The sale goes on");
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    sell(scene, &gateway, &processor, "50")?;
    scene.redis_cli(&["GET", "inventory:101"]);
    scene.flash_sale(&["stock", "show", "101"])?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}

/// Where Redis keeps its files.
fn folder(scene: &Scene) -> Result<PathBuf> {
    let said = scene.stage.redis.call(&["CONFIG", "GET", "dir"]);
    let testkit::redis::Reply::Array(parts) = said else { return Err("CONFIG GET dir says nothing".into()) };
    let dir =
        parts.into_iter().nth(1).and_then(|part| part.text()).ok_or("CONFIG GET dir names no folder")?;
    Ok(PathBuf::from(dir))
}

/// So many orders, to their end.
fn sell(scene: &mut Scene, gateway: &Part, processor: &Part, buyers: &str) -> Result<()> {
    let before = sample(&processor.look("/metrics"), "processor_orders_processed_total");
    let target = format!("http://{}", gateway.address);
    let load = ["--buyers", buyers, "--rate", "200", "--no-audit", "--keep-stock"];
    scene.flash_sale(&[&["loadgen", "--target", target.as_str()][..], &load].concat())?;
    let wanted = before + buyers.parse::<f64>().unwrap_or(f64::NAN);
    scene.wait("they have their ends", Duration::from_mins(1), |_| {
        let ended = sample(&processor.look("/metrics"), "processor_orders_processed_total");
        Ok(if ended >= wanted { Ok(()) } else { Err(format!("{ended} of {wanted}")) })
    })
}
