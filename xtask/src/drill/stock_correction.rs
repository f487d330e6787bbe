//! An operator sets the stock directly in Redis during a sale; the audit detects it, and stock and ledger are corrected.

use std::time::{Duration, Instant};

use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "An item sells out and is restocked by a plain SET. It sells again immediately, the audit reports \
                                the drift, and `stock set` corrects stock and ledger.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    context.transcript().step("Sold out");
    context.flash_sale(&["stock", "set", "101", "2"])?;
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    context.buy(&gateway, "first");
    context.buy(&gateway, "second");
    context.wait("the gateway rejects orders of the item", Duration::from_secs(20), |_| {
        let status = gateway.buy_quietly("third");
        Ok(if status == 410 { Ok(()) } else { Err(format!("got {status}")) })
    })?;
    context.buy(&gateway, "third");

    context.transcript().step("An operator sets the key manually");
    context.redis_cli(&["SET", "inventory:101", "100"]);
    let begun = Instant::now();
    let mut number = 0;
    context.wait("the item sells again", Duration::from_secs(5), |_| {
        // More often than `wait` polls.
        for _ in 0..20 {
            number += 1;
            if gateway.buy_quietly(&format!("again-{number}")) == 202 {
                return Ok(Ok(()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Err("got 410".to_owned()))
    })?;
    let took_ms = begun.elapsed().as_millis();
    context.transcript().note(&format!("an order was accepted {took_ms} ms after the reply to SET"));
    context.wait("the order has its final status", Duration::from_secs(20), |_| {
        let body = gateway.get_quietly(&format!("/orders/again-{number}"));
        Ok(if body.contains("COMPLETED") { Ok(()) } else { Err(body) })
    })?;

    context.transcript().step("The audit detects the unrecorded change");
    context.expect_exit(&["stock", "audit"], 4)?;
    context
        .transcript()
        .prose("The counted stock is 99 units. `stock set` writes stock and ledger in one step.");
    context.flash_sale(&["stock", "set", "101", "99"])?;
    context.flash_sale(&["stock", "audit"])?;
    context.flash_sale(&["stock", "show", "101"])?;

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}
