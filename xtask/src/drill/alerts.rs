//! The alerts fire and clear: the breaker by a Kafka that stands still, the dead letters by a payment provider that is away,
//! the stock by selling it. A real Prometheus on the deployment's own rules says when.

use std::time::Duration;

use crate::drill::scene::{Part, Scene};
use crate::perf::stage::Actor;
use crate::step::Result;

pub(super) const ABOUT: &str = "A real Prometheus with the rules of the deployment says when CircuitBreakerOpen, DlqSizeHigh \
                                and InventoryLow are pending, firing and gone.";

/// Units on sale at first: more than are sold before the last step.
const STOCK: &str = "10000";
/// Orders that all fail; the alert wants more than 100.
const FAILING: &str = "150";
/// Then so many units are left, of which so many are sold; the alert wants fewer than 10 left.
const LAST: (&str, &str) = ("20", "14");

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");

    scene.transcript().step("The sale is open");
    scene.flash_sale(&["stock", "set", "101", STOCK])?;
    let gateway_actor = scene.start(&gateway, &[])?;
    let processor_actor = scene.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    scene.start_prometheus(&[&gateway], &[&processor])?;
    scene.wait("both are scraped and no rule fails", Duration::from_secs(30), |scene| {
        let troubles = scene.prometheus()?.troubles()?;
        Ok(if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) })
    })?;
    scene.promtool("up")?;
    scene.promtool("ALERTS")?;

    breaker_opens(scene, &gateway)?;
    let processor_actor = dead_letters_pile_up(scene, &gateway, &processor, processor_actor)?;
    stock_runs_low(scene, &gateway)?;

    scene.transcript().step("The end");
    scene.end(gateway_actor)?;
    scene.end(processor_actor)
}

fn breaker_opens(scene: &mut Scene, gateway: &Part) -> Result<()> {
    scene.transcript().step("CircuitBreakerOpen");
    scene.transcript().prose("Five orders a second come in all the time. Kafka stands still.");
    let buyers = scene.in_background(&[
        "loadgen",
        "--target",
        &format!("http://{}", gateway.address),
        "--rate",
        "5",
        "--duration",
        "15m",
        "--connections",
        "16",
        "--no-audit",
    ])?;
    // Some are accepted before: the breaker is to open because of Kafka and not because it has never seen it.
    scene.wait("orders are accepted", Duration::from_mins(1), |scene| {
        let accepted = scene.prometheus()?.query("sum(gateway_orders_successful_total)")?;
        let accepted = accepted.first().map_or(0.0, |sample| sample.value);
        Ok(if accepted >= 25.0 { Ok(()) } else { Err(format!("{accepted} so far")) })
    })?;
    scene.promtool("gateway_orders_successful_total")?;
    scene.pause_kafka()?;
    awaited(scene, "CircuitBreakerOpen", "firing", Duration::from_mins(2))?;
    scene.get(gateway, "/health");
    scene.transcript().prose(
        "Kafka goes on. The breaker tries again by itself when `CIRCUIT_BREAKER_BASE_TIMEOUT` (30 s) is over, and closes \
         when its probes succeed.",
    );
    scene.resume_kafka()?;
    awaited(scene, "CircuitBreakerOpen", "inactive", Duration::from_mins(3))?;
    // Half-open is not firing either.
    scene.wait("the breaker is closed", Duration::from_mins(3), |scene| {
        let state = scene.prometheus()?.query("gateway_circuit_breaker_state")?;
        let state = state.first().map_or(f64::NAN, |sample| sample.value);
        Ok(if state == 0.0 { Ok(()) } else { Err(format!("its state is {state}")) })
    })?;
    scene.promtool("gateway_circuit_breaker_state")?;
    scene.get(gateway, "/health");
    scene.interrupt("loadgen", buyers)
}

/// Returns the processor that runs afterwards.
fn dead_letters_pile_up(
    scene: &mut Scene,
    gateway: &Part,
    processor: &Part,
    processor_actor: Actor,
) -> Result<Actor> {
    scene.transcript().step("DlqSizeHigh");
    scene.transcript().prose("The payment provider is away: every payment fails.");
    scene.end(processor_actor)?;
    let processor_actor = scene.start(processor, &[("PAYMENT_FAILURE_RATE", "1")])?;
    buy(scene, gateway, FAILING)?;
    awaited(scene, "DlqSizeHigh", "firing", Duration::from_mins(3))?;
    scene.flash_sale(&["dlq", "stats"])?;
    scene.transcript().prose("It is back. The letters are replayed, and their orders complete.");
    scene.end(processor_actor)?;
    let processor_actor = scene.start(processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    scene.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--rate", "500"])?;
    awaited(scene, "DlqSizeHigh", "inactive", Duration::from_mins(2))?;
    scene.flash_sale(&["dlq", "stats"])?;
    Ok(processor_actor)
}

fn stock_runs_low(scene: &mut Scene, gateway: &Part) -> Result<()> {
    scene.transcript().step("InventoryLow");
    let (units, sold) = LAST;
    scene.flash_sale(&["stock", "set", "101", units])?;
    buy(scene, gateway, sold)?;
    awaited(scene, "InventoryLow", "firing", Duration::from_mins(2))?;
    scene.flash_sale(&["stock", "show", "101"])?;
    scene.transcript().prose("The item is restocked.");
    scene.flash_sale(&["stock", "add", "101", "500"])?;
    awaited(scene, "InventoryLow", "inactive", Duration::from_mins(1))?;
    scene.flash_sale(&["stock", "show", "101"]).map(drop)
}

/// So many orders of one unit each.
fn buy(scene: &mut Scene, gateway: &Part, buyers: &str) -> Result<()> {
    let target = format!("http://{}", gateway.address);
    let orders = ["--buyers", buyers, "--rate", "50", "--connections", "16", "--no-audit"];
    let args = [&["loadgen", "--target", &target][..], &orders].concat();
    scene.flash_sale(&args).map(drop)
}

/// Waits for a state of an alert, `inactive` included, and writes down each change on the way.
fn awaited(scene: &mut Scene, name: &str, wanted: &str, deadline: Duration) -> Result<()> {
    let mut last = String::new();
    scene.wait(&format!("{name} is {wanted}"), deadline, |scene| {
        let alerts = scene.prometheus()?.alerts()?;
        let alert = alerts.iter().find(|alert| alert.labels["alertname"] == name);
        let state = alert.map_or("inactive", |alert| &alert.state);
        if state != last {
            state.clone_into(&mut last);
            let summary =
                alert.filter(|alert| alert.state == "firing").and_then(|a| a.annotations.get("summary"));
            let summary = summary.map(|summary| format!(": {summary}")).unwrap_or_default();
            scene.transcript().seen(&format!("{name} is {state}{summary}"));
        }
        Ok(if state == wanted { Ok(()) } else { Err(format!("it is {state}")) })
    })?;
    scene.promtool(&format!("ALERTS{{alertname=\"{name}\"}}")).map(drop)
}
