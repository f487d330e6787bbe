//! Kafka goes away in mid-sale and comes back: what buyers, `/health` and the log say, and that nothing is restarted.

use std::time::Duration;

use crate::drill::scene::{Part, Scene};
use crate::step::Result;

pub(super) const ABOUT: &str = "Kafka stands still in mid-sale: buyers are told 503 within their time, the breaker opens, \
                                and closes by itself when Kafka is back. An order refused meanwhile is sent again under its id.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    scene.transcript().step("The sale is open");
    scene.flash_sale(&["stock", "set", "101", "1000"])?;
    let gateway_actor = scene.start(&gateway, &[("CIRCUIT_BREAKER_BASE_TIMEOUT", "5s")])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    scene.buy(&gateway, "before");

    scene.transcript().step("Kafka stands still");
    scene.pause_kafka()?;
    let mut number = 0;
    scene.wait("the breaker is open", Duration::from_mins(1), |scene| {
        number += 1;
        let status = scene.buy(&gateway, &format!("meanwhile-{number}"));
        Ok(if state(&gateway) == "open" { Ok(()) } else { Err(format!("answered {status}")) })
    })?;
    scene.get(&gateway, "/health");
    scene.transcript().prose("From now on the answer comes at once, and neither Redis nor Kafka is asked.");
    scene.buy(&gateway, "refused");
    scene.log_lines(&gateway_actor, "circuit_breaker")?;

    scene.transcript().step("Kafka goes on");
    scene.resume_kafka()?;
    scene.wait("the breaker is closed", Duration::from_mins(2), |_| {
        number += 1;
        let status = gateway.buy_quietly(&format!("probe-{number}"));
        let state = state(&gateway);
        Ok(if state == "closed" { Ok(()) } else { Err(format!("it is {state}, the buyer heard {status}")) })
    })?;
    scene.get(&gateway, "/health");

    scene.transcript().step("The refused order is sent again");
    scene.buy(&gateway, "refused");
    scene.wait("it has its end", Duration::from_secs(30), |_| {
        let said = gateway.look("/orders/refused");
        Ok(if said.contains("COMPLETED") { Ok(()) } else { Err(said) })
    })?;
    scene.get(&gateway, "/orders/refused");
    scene.flash_sale(&["stock", "audit"])?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}

/// As `/health` has it.
fn state(gateway: &Part) -> String {
    let said = gateway.look("/health");
    let after = said.split("\"circuit_breaker_state\":\"").nth(1).unwrap_or_default();
    after.split('"').next().unwrap_or_default().to_owned()
}
