//! Alerts fire and clear: the breaker alert by pausing Kafka, the dead letter alert by failing payments, the stock alert by
//! selling the stock. A real Prometheus evaluates the deployment's own rules.

use std::time::Duration;

use crate::drill::context::{DrillContext, Service};
use crate::perf::stage::Actor;
use crate::step::Result;

pub(super) const ABOUT: &str = "A real Prometheus with the rules of the deployment shows when CircuitBreakerOpen, DlqSizeHigh \
                                and InventoryLow become pending, firing and inactive.";

/// Units on sale at the start: more than are sold before the last step.
const STOCK: &str = "10000";
/// Number of orders whose payment fails; the alert fires above 100.
const FAILING: &str = "150";
/// Units left for the last step, and units sold then; the alert fires below 10 units.
const LAST: (&str, &str) = ("20", "14");

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");

    context.transcript().step("The sale is open");
    context.flash_sale(&["stock", "set", "101", STOCK])?;
    let gateway_process = context.start(&gateway, &[])?;
    let processor_process = context.start(&processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    context.start_prometheus(&[&gateway], &[&processor])?;
    context.wait(
        "both processes are scraped and all rules evaluate",
        Duration::from_secs(30),
        |context| {
            let problems = context.prometheus()?.problems()?;
            Ok(if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) })
        },
    )?;
    context.promtool("up")?;
    context.promtool("ALERTS")?;

    breaker_opens(context, &gateway)?;
    let processor_process = dead_letters_accumulate(context, &gateway, &processor, processor_process)?;
    stock_runs_low(context, &gateway)?;

    context.transcript().step("The end");
    context.end(gateway_process)?;
    context.end(processor_process)
}

fn breaker_opens(context: &mut DrillContext, gateway: &Service) -> Result<()> {
    context.transcript().step("CircuitBreakerOpen");
    context.transcript().prose("Five orders per second arrive throughout this step. Kafka is paused.");
    let buyers = context.in_background(&[
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
    // Some orders are accepted first, so that the breaker opens because Kafka stops, not because it was never reachable.
    context.wait("orders are accepted", Duration::from_mins(1), |context| {
        let accepted = context.prometheus()?.query("sum(gateway_orders_successful_total)")?;
        let accepted = accepted.first().map_or(0.0, |sample| sample.value);
        Ok(if accepted >= 25.0 { Ok(()) } else { Err(format!("{accepted} so far")) })
    })?;
    context.promtool("gateway_orders_successful_total")?;
    context.pause_kafka()?;
    await_alert(context, "CircuitBreakerOpen", "firing", Duration::from_mins(2))?;
    context.get(gateway, "/health");
    context.transcript().prose(
        "Kafka resumes. After `CIRCUIT_BREAKER_BASE_TIMEOUT` (30 s) the breaker probes Kafka automatically, and it closes \
         when its probes succeed.",
    );
    context.resume_kafka()?;
    await_alert(context, "CircuitBreakerOpen", "inactive", Duration::from_mins(3))?;
    // The alert is also inactive while the breaker is half-open.
    context.wait("the breaker is closed", Duration::from_mins(3), |context| {
        let state = context.prometheus()?.query("gateway_circuit_breaker_state")?;
        let state = state.first().map_or(f64::NAN, |sample| sample.value);
        Ok(if state == 0.0 { Ok(()) } else { Err(format!("its state is {state}")) })
    })?;
    context.promtool("gateway_circuit_breaker_state")?;
    context.get(gateway, "/health");
    context.interrupt("loadgen", buyers)
}

/// Returns the processor that is running at the end.
fn dead_letters_accumulate(
    context: &mut DrillContext,
    gateway: &Service,
    processor: &Service,
    processor_process: Actor,
) -> Result<Actor> {
    context.transcript().step("DlqSizeHigh");
    context.transcript().prose("The payment provider is down: every payment fails.");
    context.end(processor_process)?;
    let processor_process = context.start(processor, &[("PAYMENT_FAILURE_RATE", "1")])?;
    buy(context, gateway, FAILING)?;
    await_alert(context, "DlqSizeHigh", "firing", Duration::from_mins(3))?;
    context.flash_sale(&["dlq", "stats"])?;
    context
        .transcript()
        .prose("The payment provider is up again. The dead letters are replayed, and their orders complete.");
    context.end(processor_process)?;
    let processor_process = context.start(processor, &[("PAYMENT_FAILURE_RATE", "0")])?;
    context.flash_sale(&["dlq", "replay", "--reason", "Payment Timeout", "--rate", "500"])?;
    await_alert(context, "DlqSizeHigh", "inactive", Duration::from_mins(2))?;
    context.flash_sale(&["dlq", "stats"])?;
    Ok(processor_process)
}

fn stock_runs_low(context: &mut DrillContext, gateway: &Service) -> Result<()> {
    context.transcript().step("InventoryLow");
    let (units, sold) = LAST;
    context.flash_sale(&["stock", "set", "101", units])?;
    buy(context, gateway, sold)?;
    await_alert(context, "InventoryLow", "firing", Duration::from_mins(2))?;
    context.flash_sale(&["stock", "show", "101"])?;
    context.transcript().prose("The item is restocked.");
    context.flash_sale(&["stock", "add", "101", "500"])?;
    await_alert(context, "InventoryLow", "inactive", Duration::from_mins(1))?;
    context.flash_sale(&["stock", "show", "101"]).map(drop)
}

/// Sends `buyers` orders of one unit each.
fn buy(context: &mut DrillContext, gateway: &Service, buyers: &str) -> Result<()> {
    let target = format!("http://{}", gateway.address);
    let orders = ["--buyers", buyers, "--rate", "50", "--connections", "16", "--no-audit"];
    let args = [&["loadgen", "--target", &target][..], &orders].concat();
    context.flash_sale(&args).map(drop)
}

/// Waits for a state of an alert, which may be `inactive`, and records each change of state.
fn await_alert(context: &mut DrillContext, name: &str, wanted: &str, deadline: Duration) -> Result<()> {
    let mut last = String::new();
    context.wait(&format!("{name} is {wanted}"), deadline, |context| {
        let alerts = context.prometheus()?.alerts()?;
        let alert = alerts.iter().find(|alert| alert.labels["alertname"] == name);
        let state = alert.map_or("inactive", |alert| &alert.state);
        if state != last {
            state.clone_into(&mut last);
            let summary =
                alert.filter(|alert| alert.state == "firing").and_then(|a| a.annotations.get("summary"));
            let summary = summary.map(|summary| format!(": {summary}")).unwrap_or_default();
            context.transcript().note(&format!("{name} is {state}{summary}"));
        }
        Ok(if state == wanted { Ok(()) } else { Err(format!("it is {state}")) })
    })?;
    context.promtool(&format!("ALERTS{{alertname=\"{name}\"}}")).map(drop)
}
