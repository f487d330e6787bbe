//! The processor is gone: orders wait, buyers are told how many are ahead of them, and a new one goes on where it stopped.

use std::time::Duration;

use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "The processor is killed in mid-sale. Orders are still taken and wait; buyers who ask are \
                                told how many are ahead. A new processor ends all of them, each once.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    let target = format!("http://{}", gateway.address);
    scene.transcript().step("The sale is open");
    scene.flash_sale(&["stock", "set", "101", "5000"])?;
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor =
        scene.start(&processor, &[("PAYMENT_LATENCY", "20ms"), ("PAYMENT_CONCURRENCY", "8")])?;

    scene.transcript().step("The processor dies");
    let load = ["--buyers", "3000", "--rate", "600", "--no-audit", "--keep-stock"];
    let args = [&["loadgen", "--target", target.as_str()][..], &load].concat();
    let buyers = scene.in_background(&args)?;
    scene.wait("orders are processed", Duration::from_secs(30), |_| {
        let said = processor.look("/metrics");
        let processed = sample(&said, "processor_orders_processed_total");
        Ok(if processed > 200.0 { Ok(()) } else { Err(format!("{processed} so far")) })
    })?;
    scene.kill(processor_actor);
    scene.finish("loadgen", buyers)?;

    scene.transcript().step("What is seen");
    scene.buy(&gateway, "late");
    scene.get(&gateway, "/orders/late");
    scene.flash_sale(&["stock", "show", "101"])?;
    scene.fails(&["health", "--addr", &processor.address], 1)?;

    scene.transcript().step("A new processor");
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0.1")])?;
    scene.wait("nothing waits any more", Duration::from_mins(2), |_| {
        let said = processor.look("/metrics");
        let lag = sample(&said, "processor_consumer_lag");
        let is_ended = !gateway.look("/orders/late").contains("PENDING");
        Ok(if lag == 0.0 && is_ended { Ok(()) } else { Err(format!("a lag of {lag}")) })
    })?;
    scene.get(&gateway, "/orders/late");
    scene.flash_sale(&["loadgen", "audit"])?;
    scene.flash_sale(&["stock", "audit"])?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}

/// The value of a metric without labels; NaN when it is not there.
pub(super) fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}
