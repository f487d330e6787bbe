//! The payment provider is away; its dead letters are looked at, replayed in two goes, and a letter that is no order is
//! purged.

use std::time::Duration;

use super::orders_not_processing::sample;
use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "Payments fail for a while. The letters are counted, looked at, and replayed in two goes; \
                                every order completes and no letter is sent twice.";

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    let target = format!("http://{}", gateway.address);
    scene.transcript().step("Payments fail");
    scene.flash_sale(&["stock", "set", "101", "5000"])?;
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "1")])?;
    let load = ["--buyers", "300", "--rate", "300", "--no-audit", "--keep-stock"];
    scene.flash_sale(&[&["loadgen", "--target", target.as_str()][..], &load].concat())?;
    let is_open = |wanted: f64| {
        let address = processor.clone();
        move |_: &mut Scene| {
            let size = sample(&address.look("/metrics"), "processor_dlq_size");
            Ok(if (size - wanted).abs() < 0.5 { Ok(()) } else { Err(format!("{size} letters are open")) })
        }
    };
    scene.wait("300 letters are open", Duration::from_mins(1), is_open(300.0))?;

    scene.transcript().step("What is in them");
    scene.flash_sale(&["dlq", "stats"])?;
    scene.flash_sale(&["dlq", "list", "--reason", "Payment Timeout", "--max", "3"])?;
    scene.flash_sale(&["stock", "show", "101"])?;

    scene.transcript().step("The provider is back");
    scene.end(processor_actor)?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    scene.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--dry-run"])?;
    scene.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--max", "100", "--rate", "500"])?;
    scene.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--rate", "500"])?;
    scene.wait("no letter is open", Duration::from_mins(1), is_open(0.0))?;
    scene.wait("nothing waits", Duration::from_mins(1), |_| {
        let lag = sample(&processor.look("/metrics"), "processor_consumer_lag");
        Ok(if lag == 0.0 { Ok(()) } else { Err(format!("a lag of {lag}")) })
    })?;
    scene.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout"])?;
    scene.flash_sale(&["stock", "audit"])?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}
