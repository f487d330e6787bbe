//! The keys of an item are lost during a sale: its orders become dead letters, its stock is computed from the topic of
//! orders, and no unit is sold twice.

use std::time::Duration;

use super::orders_not_processing::sample;
use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "The stock of an item is lost in Redis during a sale. Its orders become dead letters; the stock \
                                is rebuilt from the topic of orders, and the dead letters are replayed.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    context.transcript().step("The sale is open");
    context.flash_sale(&["stock", "set", "101", "10"])?;
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    let processed = |wanted: f64| {
        let address = processor.clone();
        move |_: &mut DrillContext| {
            let ended = sample(&address.get_quietly("/metrics"), "processor_orders_processed_total");
            Ok(if ended >= wanted { Ok(()) } else { Err(format!("{ended} of {wanted}")) })
        }
    };
    for id in ["r-1", "r-2", "r-3"] {
        context.buy(&gateway, id);
    }
    context.wait("they have a final status", Duration::from_secs(30), processed(3.0))?;
    context.flash_sale(&["stock", "show", "101"])?;

    context.transcript().step("The keys are lost");
    context.redis_cli(&["DEL", "inventory:101", "stock_ledger:{inventory:101}"]);
    for id in ["r-4", "r-5"] {
        context.buy(&gateway, id);
    }
    context.wait("they are dead letters", Duration::from_secs(30), processed(5.0))?;
    context.get(&gateway, "/orders/r-4");
    context.flash_sale(&["dlq", "stats"])?;

    context.transcript().step("Rebuild the stock");
    context.flash_sale(&["stock", "rebuild", "101", "--seeded", "10"])?;
    context.flash_sale(&["stock", "rebuild", "101", "--seeded", "10", "--yes"])?;
    context.flash_sale(&["dlq", "replay", "--reason", "Unknown Item"])?;
    context.wait("they have a final status", Duration::from_secs(30), processed(7.0))?;
    context.get(&gateway, "/orders/r-4");
    context.redis_cli(&["GET", "inventory:101"]);

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}
