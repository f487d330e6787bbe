//! Ten gateways in a row take over from each other under load, without a proxy in front of them.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::drill::scene::Scene;
use crate::step::Result;

pub(super) const ABOUT: &str = "Ten times in a row a new gateway takes over the listening sockets of the running one \
                                (HANDOVER_SOCKET) while 1,000 orders a second come in, without a balancer in front. The load \
                                generator judges it: no connection refused or reset, no order lost.";

/// More than is bought.
const STOCK: &str = "1000000";
const HANDOVERS: usize = 10;
/// Between two of them.
const PAUSE: Duration = Duration::from_secs(2);
/// The old one goes when its last connection has had its answer.
const GONE_MAX: Duration = Duration::from_secs(40);

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateway = scene.gateway("127.0.0.1:8080");
    let processor = scene.processor("127.0.0.1:9090");
    let socket = scene.stage.dir().join("gateway.sock");
    let socket = socket.display().to_string();
    scene.transcript().show_as(&socket, "/run/flash-sale/gateway.sock");
    let report = scene.stage.dir().join("report.json");
    let shown = report.display().to_string();
    scene.transcript().show_as(&shown, "report.json");

    scene.transcript().step("The sale is open");
    let worker = scene.start(&processor, &[])?;
    let variables = [("HANDOVER_SOCKET", socket.as_str())];
    let mut running = scene.start(&gateway, &variables)?;
    let (redis, kafka) = (scene.stage.redis.addr(), scene.stage.kafka.addr());
    let target = format!("http://{}", gateway.address);
    // No retries: an order whose connection is refused or reset shows.
    let buyers = scene.in_background(&[
        "loadgen",
        "--target",
        &target,
        "--rate",
        "1000",
        "--duration",
        "45s",
        "--connections",
        "64",
        // Connections that are kept and new ones, mixed.
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

    scene.transcript().step("Ten hand-overs");
    for _ in 0..HANDOVERS {
        std::thread::sleep(PAUSE);
        let next = scene.start(&gateway, &variables)?;
        let old = std::mem::replace(&mut running, next);
        scene.leaves(old, GONE_MAX)?;
    }
    let code = scene.finish("loadgen", buyers)?;

    scene.transcript().step("The verdict");
    let said = fs::read_to_string(&report).map_err(|error| format!("report.json: {error}"))?;
    let said: Value = serde_json::from_str(&said)?;
    let of = |name: &str| serde_json::to_string_pretty(&said[name]).unwrap_or_default();
    scene.transcript().command("jq .verdict report.json", &of("verdict"));
    let counts = super::rolling_deployment::counts(&said["outcomes"]);
    scene.transcript().command("jq '.outcomes | map_values(.count)' report.json", &counts);
    if code != Some(0) {
        return Err(format!("the load generator ended with {code:?}: {}", of("checks")).into());
    }
    if counts.contains("reset") || counts.contains("refused") {
        return Err(format!("connections were refused or reset: {counts}").into());
    }
    scene.flash_sale(&["stock", "audit"])?;
    scene.transcript().step("The end");
    scene.end(running)?;
    scene.end(worker)
}
