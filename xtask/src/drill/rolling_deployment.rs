//! Two gateways and two processors are replaced one after another behind one port, under load.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::child::{self, Guarded};
use testkit::free_port;

use crate::drill::scene::{Part, Scene};
use crate::services::apt;
use crate::step::Result;
use crate::workspace;

pub(super) const ABOUT: &str = "Behind one port (deploy/edge/haproxy.cfg) two gateways and two processors are replaced one \
                                after another while 300 orders a second come in. The load generator judges it.";

/// More than is bought.
const STOCK: &str = "100000";
/// Between two of them, as the probes of a deployment take.
const PAUSE: Duration = Duration::from_secs(4);

pub(super) fn play(scene: &mut Scene) -> Result<()> {
    let gateways = [scene.gateway("127.0.0.1:8081"), scene.gateway("127.0.0.1:8082")];
    let processors = [scene.processor("127.0.0.1:9090"), scene.processor("127.0.0.1:9091")];
    scene.transcript().step("The sale is open");
    let mut running = Vec::new();
    let leaving = [("SHUTDOWN_DELAY", "2s")];
    let variables = |part: &Part| if part.is_gateway() { &leaving[..] } else { &[] };
    for part in gateways.iter().chain(&processors) {
        running.push((part, Some(scene.start(part, variables(part))?)));
    }
    let edge = format!("127.0.0.1:{}", free_port());
    let _balancer = balancer(scene, &edge, &gateways)?;
    let report = scene.stage.dir().join("report.json");
    let shown = report.display().to_string();
    scene.transcript().show_as(&shown, "report.json");
    let (redis, kafka) = (scene.stage.redis.addr(), scene.stage.kafka.addr());
    let target = format!("http://{edge}");
    let buyers = scene.in_background(&[
        "loadgen",
        "--target",
        &target,
        "--rate",
        "300",
        "--duration",
        "40s",
        "--connections",
        "32",
        "--retries",
        "5",
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

    scene.transcript().step("One after another");
    for (part, actor) in &mut running {
        std::thread::sleep(PAUSE);
        if let Some(old) = actor.take() {
            scene.end(old)?;
        }
        *actor = Some(scene.start(part, variables(part))?);
    }
    let code = scene.finish("loadgen", buyers)?;

    scene.transcript().step("The verdict");
    let said = fs::read_to_string(&report).map_err(|error| format!("report.json: {error}"))?;
    let said: Value = serde_json::from_str(&said)?;
    let of = |name: &str| serde_json::to_string_pretty(&said[name]).unwrap_or_default();
    scene.transcript().command("jq .verdict report.json", &of("verdict"));
    scene.transcript().command("jq '.outcomes | map_values(.count)' report.json", &counts(&said["outcomes"]));
    if code != Some(0) {
        return Err(format!("the load generator ended with {code:?}: {}", of("checks")).into());
    }
    scene.flash_sale(&["stock", "audit"])?;
    scene.transcript().step("The end");
    for actor in running.into_iter().filter_map(|(_, actor)| actor) {
        scene.end(actor)?;
    }
    Ok(())
}

/// How often each outcome was, without those that never were.
pub(super) fn counts(outcomes: &Value) -> String {
    let lines = outcomes.as_object().into_iter().flatten().filter_map(|(name, outcome)| {
        let count = outcome.get("count").unwrap_or(outcome).as_u64()?;
        (count > 0).then(|| format!("{name}: {count}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The committed configuration with two gateways by address: nobody here answers as Docker's DNS.
fn balancer(scene: &mut Scene, edge: &str, gateways: &[Part]) -> Result<Guarded> {
    let file = workspace::root().join("deploy/edge/haproxy.cfg");
    let text = fs::read_to_string(&file).map_err(|error| format!("deploy/edge/haproxy.cfg: {error}"))?;
    let servers: Vec<String> = gateways
        .iter()
        .enumerate()
        .map(|(number, gateway)| format!("    server gateway{number} {}\n", gateway.address))
        .collect();
    let mut changed = String::new();
    for line in text.lines() {
        match line.trim() {
            words if words.starts_with("server-template ") => changed += &servers.concat(),
            // As many as 32 buyers need; descriptors are few on a developer's machine.
            "maxconn 40000" => changed.push_str("    maxconn 1000\n"),
            "bind :8080" => changed.extend(["    bind ", edge, "\n"]),
            "bind 127.0.0.1:8404" | "bind :9090" => {
                changed.extend(["    bind 127.0.0.1:", &free_port().to_string(), "\n"]);
            }
            _ => changed.extend([line, "\n"]),
        }
    }
    let config = scene.stage.dir().join("haproxy.cfg");
    fs::write(&config, changed).map_err(|error| format!("haproxy.cfg: {error}"))?;
    let mut command = Command::new(apt::program("haproxy", "haproxy")?);
    command.arg("-f").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let balancer = child::spawn(command).map_err(|error| format!("haproxy: {error}"))?;
    scene.transcript().show_as(edge, "127.0.0.1:8080");
    scene.transcript().command("haproxy -f deploy/edge/haproxy.cfg &", "");
    scene.wait("the balancer has a gateway", Duration::from_secs(20), |_| {
        let is_open = std::net::TcpStream::connect(edge).is_ok()
            && testkit::http::Client::connect(edge)
                .try_get("/health")
                .is_some_and(|answer| answer.status == 200);
        Ok(if is_open { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    Ok(balancer)
}
