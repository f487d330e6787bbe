//! The payment provider is down; the resulting dead letters are inspected and replayed in two batches.

use std::time::Duration;

use super::orders_not_processing::sample;
use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "Payments fail for a while. The dead letters are counted, inspected and replayed in two batches; \
                                every order completes and no dead letter is sent twice.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    let target = format!("http://{}", gateway.address);
    context.transcript().step("Payments fail");
    context.flash_sale(&["stock", "set", "101", "5000"])?;
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "1")])?;
    let load = ["--buyers", "300", "--rate", "300", "--no-audit", "--keep-stock"];
    context.flash_sale(&[&["loadgen", "--target", target.as_str()][..], &load].concat())?;
    let is_open = |wanted: f64| {
        let address = processor.clone();
        move |_: &mut DrillContext| {
            let size = sample(&address.get_quietly("/metrics"), "processor_dlq_size");
            Ok(if (size - wanted).abs() < 0.5 {
                Ok(())
            } else {
                Err(format!("{size} dead letters are open"))
            })
        }
    };
    context.wait("300 dead letters are open", Duration::from_mins(1), is_open(300.0))?;

    context.transcript().step("Inspecting the dead letters");
    context.flash_sale(&["dlq", "stats"])?;
    context.flash_sale(&["dlq", "list", "--reason", "Payment Timeout", "--max", "3"])?;
    context.flash_sale(&["stock", "show", "101"])?;

    context.transcript().step("The payment provider is up again");
    context.end(processor_process)?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    context.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--dry-run"])?;
    context.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--max", "100", "--rate", "500"])?;
    context.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--rate", "500"])?;
    context.wait("no dead letter is open", Duration::from_mins(1), is_open(0.0))?;
    context.wait("all orders are processed", Duration::from_mins(1), |_| {
        let lag = sample(&processor.get_quietly("/metrics"), "processor_consumer_lag");
        Ok(if lag == 0.0 { Ok(()) } else { Err(format!("a lag of {lag}")) })
    })?;
    context.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout"])?;
    context.flash_sale(&["stock", "audit"])?;

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}
