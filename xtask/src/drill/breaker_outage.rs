//! Kafka stops responding during a sale and recovers: shows the responses to buyers, `/health` and the log. No process is
//! restarted.

use std::time::Duration;

use crate::drill::context::{DrillContext, Service};
use crate::step::Result;

pub(super) const ABOUT: &str = "Kafka is paused during a sale: buyers get 503 within the time limit, the breaker opens, and it \
                                closes automatically when Kafka responds again. A rejected order is sent again under the same id.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    context.transcript().step("The sale is open");
    context.flash_sale(&["stock", "set", "101", "1000"])?;
    let gateway_process = context.start(&gateway, &[("CIRCUIT_BREAKER_BASE_TIMEOUT", "5s")])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    context.buy(&gateway, "before");

    context.transcript().step("Kafka is paused");
    context.pause_kafka()?;
    let mut number = 0;
    context.wait("the breaker is open", Duration::from_mins(1), |context| {
        number += 1;
        let status = context.buy(&gateway, &format!("meanwhile-{number}"));
        Ok(if state(&gateway) == "open" { Ok(()) } else { Err(format!("got {status}")) })
    })?;
    context.get(&gateway, "/health");
    context
        .transcript()
        .prose("From now on the gateway responds immediately, without calling Redis or Kafka.");
    context.buy(&gateway, "refused");
    context.log_lines(&gateway_process, "circuit_breaker")?;

    context.transcript().step("Kafka resumes");
    context.resume_kafka()?;
    context.wait("the breaker is closed", Duration::from_mins(2), |_| {
        number += 1;
        let status = gateway.buy_quietly(&format!("probe-{number}"));
        let state = state(&gateway);
        Ok(if state == "closed" { Ok(()) } else { Err(format!("it is {state}, the buyer got {status}")) })
    })?;
    context.get(&gateway, "/health");

    context.transcript().step("The rejected order is sent again");
    context.buy(&gateway, "refused");
    context.wait("it has its final status", Duration::from_secs(30), |_| {
        let body = gateway.get_quietly("/orders/refused");
        Ok(if body.contains("COMPLETED") { Ok(()) } else { Err(body) })
    })?;
    context.get(&gateway, "/orders/refused");
    context.flash_sale(&["stock", "audit"])?;

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}

/// The breaker's state according to `/health`.
fn state(gateway: &Service) -> String {
    let body = gateway.get_quietly("/health");
    let after = body.split("\"circuit_breaker_state\":\"").nth(1).unwrap_or_default();
    after.split('"').next().unwrap_or_default().to_owned()
}
