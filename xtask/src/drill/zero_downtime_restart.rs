//! Gateways take over from each other ten times in a row under load, without a proxy in front of them.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::drill::context::DrillContext;
use crate::step::Result;

pub(super) const ABOUT: &str = "Ten times in a row a new gateway takes over the listening sockets of the running one \
                                (HANDOVER_SOCKET) while 1,000 orders per second arrive, without a load balancer. The load \
                                generator checks that no connection is refused or reset and no order is lost.";

/// More units than are bought.
const STOCK: &str = "1000000";
const HANDOVERS: usize = 10;
/// Pause between two hand-overs.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the old gateway may take to exit; it exits when its last connection has got its response.
const EXIT_MAX: Duration = Duration::from_secs(40);

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateway = context.gateway("127.0.0.1:8080");
    let processor = context.processor("127.0.0.1:9090");
    let socket = context.stage.dir().join("gateway.sock");
    let socket = socket.display().to_string();
    context.transcript().show_as(&socket, "/run/flash-sale/gateway.sock");
    let report = context.stage.dir().join("report.json");
    let shown = report.display().to_string();
    context.transcript().show_as(&shown, "report.json");

    context.transcript().step("The sale is open");
    let worker = context.start(&processor, &[])?;
    let variables = [("HANDOVER_SOCKET", socket.as_str())];
    let mut running = context.start(&gateway, &variables)?;
    let (redis, kafka) = (context.stage.redis.addr(), context.stage.kafka.addr());
    let target = format!("http://{}", gateway.address);
    // No retries, so that refused and reset connections are visible.
    let buyers = context.in_background(&[
        "loadgen",
        "--target",
        &target,
        "--rate",
        "1000",
        "--duration",
        "45s",
        "--connections",
        "64",
        // A mix of persistent and new connections.
        "--requests-per-connection",
        "50",
        "--stock",
        STOCK,
        "--no-gateway-metrics",
        "--redis",
        &redis,
        "--kafka",
        &kafka,
        "--json",
        &shown,
    ])?;

    context.transcript().step("Ten hand-overs");
    for _ in 0..HANDOVERS {
        std::thread::sleep(PAUSE);
        let next = context.start(&gateway, &variables)?;
        let old = std::mem::replace(&mut running, next);
        context.wait_exit(old, EXIT_MAX)?;
    }
    let code = context.finish("loadgen", buyers)?;

    context.transcript().step("The verdict");
    let json = fs::read_to_string(&report).map_err(|error| format!("report.json: {error}"))?;
    let json: Value = serde_json::from_str(&json)?;
    let of = |name: &str| serde_json::to_string_pretty(&json[name]).unwrap_or_default();
    context.transcript().command("jq .verdict report.json", &of("verdict"));
    let counts = super::rolling_deployment::counts(&json["outcomes"]);
    context.transcript().command("jq '.outcomes | map_values(.count)' report.json", &counts);
    if code != Some(0) {
        return Err(format!("the load generator ended with {code:?}: {}", of("checks")).into());
    }
    if counts.contains("reset") || counts.contains("refused") {
        return Err(format!("connections were refused or reset: {counts}").into());
    }
    context.flash_sale(&["stock", "audit"])?;
    context.transcript().step("The end");
    context.end(running)?;
    context.end(worker)
}
