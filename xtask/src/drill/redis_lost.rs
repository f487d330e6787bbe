//! The key of an item vanishes in mid-sale: its orders wait, its stock is worked out from the log, and nothing is sold
//! twice.

use std::time::Duration;

use super::orders_not_processing::sample;
use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "The stock of an item vanishes from Redis in mid-sale. Its orders wait among the dead letters; \
                                the stock is rebuilt from the log of orders, and the letters are replayed.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    scene.transcript().step("The sale is open");
    scene.flash_sale(&["stock", "set", "101", "10"])?;
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    let processed = |wanted: f64| {
        let address = processor.clone();
        move |_: &mut Scene| {
            let ended = sample(&address.look("/metrics"), "processor_orders_processed_total");
            Ok(if ended >= wanted { Ok(()) } else { Err(format!("{ended} of {wanted}")) })
        }
    };
    for id in ["r-1", "r-2", "r-3"] {
        scene.buy(&gateway, id);
    }
    scene.wait("they have their ends", Duration::from_secs(30), processed(3.0))?;
    scene.flash_sale(&["stock", "show", "101"])?;

    scene.transcript().step("The keys vanish");
    scene.redis_cli(&["DEL", "inventory:101", "stock_ledger:{inventory:101}"]);
    for id in ["r-4", "r-5"] {
        scene.buy(&gateway, id);
    }
    scene.wait("they are dead letters", Duration::from_secs(30), processed(5.0))?;
    scene.get(&gateway, "/orders/r-4");
    scene.flash_sale(&["dlq", "stats"])?;

    scene.transcript().step("What must be left");
    scene.flash_sale(&["stock", "rebuild", "101", "--seeded", "10"])?;
    scene.flash_sale(&["stock", "rebuild", "101", "--seeded", "10", "--yes"])?;
    scene.flash_sale(&["dlq", "replay", "--reason", "Unknown Item"])?;
    scene.wait("they have their ends", Duration::from_secs(30), processed(7.0))?;
    scene.get(&gateway, "/orders/r-4");
    scene.redis_cli(&["GET", "inventory:101"]);

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}
