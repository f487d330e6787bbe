//! The processor is killed: orders wait, buyers can query how many are ahead of them, and a new processor continues where the
//! old one stopped.

use std::time::Duration;

use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "The processor is killed during a sale. Orders are still accepted and wait; the status query \
                                shows how many are ahead. A new processor processes all of them exactly once.";

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    let target = format!("http://{}", gateway.address);
    context.transcript().step("The sale is open");
    context.flash_sale(&["stock", "set", "101", "5000"])?;
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process =
        context.start(&processor, &[("PAYMENT_LATENCY", "20ms"), ("PAYMENT_CONCURRENCY", "8")])?;

    context.transcript().step("The processor is killed");
    let load = ["--buyers", "3000", "--rate", "600", "--no-audit", "--keep-stock"];
    let args = [&["loadgen", "--target", target.as_str()][..], &load].concat();
    let buyers = context.in_background(&args)?;
    context.wait("orders are processed", Duration::from_secs(30), |_| {
        let page = processor.get_quietly("/metrics");
        let processed = sample(&page, "processor_orders_processed_total");
        Ok(if processed > 200.0 { Ok(()) } else { Err(format!("{processed} so far")) })
    })?;
    context.kill(processor_process);
    context.finish("loadgen", buyers)?;

    context.transcript().step("Symptoms");
    context.buy(&gateway, "late");
    context.get(&gateway, "/orders/late");
    context.flash_sale(&["stock", "show", "101"])?;
    context.expect_exit(&["health", "--addr", &processor.address], 1)?;

    context.transcript().step("A new processor");
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0.1")])?;
    context.wait("all orders are processed", Duration::from_mins(2), |_| {
        let page = processor.get_quietly("/metrics");
        let lag = sample(&page, "processor_consumer_lag");
        let is_final = !gateway.get_quietly("/orders/late").contains("PENDING");
        Ok(if lag == 0.0 && is_final { Ok(()) } else { Err(format!("a lag of {lag}")) })
    })?;
    context.get(&gateway, "/orders/late");
    context.flash_sale(&["loadgen", "audit"])?;
    context.flash_sale(&["stock", "audit"])?;

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}

/// The value of a metric without labels; NaN if it is missing.
pub(super) fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}
