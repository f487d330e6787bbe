//! Somebody sets the stock past us, in mid-sale; the audit finds it, and it is corrected with its books.

use std::time::{Duration, Instant};

use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "An item sells out, is restocked by a plain SET, which sells at once and shows as drift, and is \
                                corrected with its books by `stock set`.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    scene.transcript().step("Sold out");
    scene.flash_sale(&["stock", "set", "101", "2"])?;
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    scene.buy(&gateway, "first");
    scene.buy(&gateway, "second");
    scene.wait("the gateway knows", Duration::from_secs(20), |_| {
        let status = gateway.buy_quietly("third");
        Ok(if status == 410 { Ok(()) } else { Err(format!("answered {status}")) })
    })?;
    scene.buy(&gateway, "third");

    scene.transcript().step("An operator sets the key by hand");
    scene.redis_cli(&["SET", "inventory:101", "100"]);
    let begun = Instant::now();
    let mut number = 0;
    scene.wait("it sells again", Duration::from_secs(5), |_| {
        // Closer together than a wait looks.
        for _ in 0..20 {
            number += 1;
            if gateway.buy_quietly(&format!("again-{number}")) == 202 {
                return Ok(Ok(()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Err("answered 410".to_owned()))
    })?;
    let took_ms = begun.elapsed().as_millis();
    scene.transcript().seen(&format!("an order was taken {took_ms} ms after the SET was answered"));
    scene.wait("the order has its end", Duration::from_secs(20), |_| {
        let said = gateway.look(&format!("/orders/again-{number}"));
        Ok(if said.contains("COMPLETED") { Ok(()) } else { Err(said) })
    })?;

    scene.transcript().step("The audit finds what nobody wrote down");
    scene.fails(&["stock", "audit"], 4)?;
    scene.transcript().prose("The count of the shelf is 99. `stock set` writes stock and books in one step.");
    scene.flash_sale(&["stock", "set", "101", "99"])?;
    scene.flash_sale(&["stock", "audit"])?;
    scene.flash_sale(&["stock", "show", "101"])?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}
