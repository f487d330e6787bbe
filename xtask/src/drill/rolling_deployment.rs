//! Two gateways and two processors are replaced one after another behind one port, under load.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::child::{self, Guarded};
use testkit::free_port;

use crate::drill::context::{DrillContext, Service};
use crate::services::apt;
use crate::step::Result;
use crate::workspace;

pub(super) const ABOUT: &str = "Behind one port (deploy/edge/haproxy.cfg) two gateways and two processors are replaced one \
                                after another while 300 orders per second arrive. The load generator audits every order.";

/// More units than are bought.
const STOCK: &str = "100000";
/// Pause between two replacements, about as long as the probes of a deployment take.
const PAUSE: Duration = Duration::from_secs(4);

pub(super) fn run(context: &mut DrillContext) -> Result<()> {
    let gateways = [context.gateway("127.0.0.1:8081"), context.gateway("127.0.0.1:8082")];
    let processors = [context.processor("127.0.0.1:9090"), context.processor("127.0.0.1:9091")];
    context.transcript().step("The sale is open");
    let mut running = Vec::new();
    let gateway_variables = [("SHUTDOWN_DELAY", "2s")];
    let variables = |service: &Service| if service.is_gateway() { &gateway_variables[..] } else { &[] };
    for service in gateways.iter().chain(&processors) {
        running.push((service, Some(context.start(service, variables(service))?)));
    }
    let edge = format!("127.0.0.1:{}", free_port());
    let _balancer = balancer(context, &edge, &gateways)?;
    let report = context.stage.dir().join("report.json");
    let shown = report.display().to_string();
    context.transcript().show_as(&shown, "report.json");
    let (redis, kafka) = (context.stage.redis.addr(), context.stage.kafka.addr());
    let target = format!("http://{edge}");
    let buyers = context.in_background(&[
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

    context.transcript().step("Replace one after another");
    for (service, actor) in &mut running {
        std::thread::sleep(PAUSE);
        if let Some(old) = actor.take() {
            context.end(old)?;
        }
        *actor = Some(context.start(service, variables(service))?);
    }
    let code = context.finish("loadgen", buyers)?;

    context.transcript().step("The verdict");
    let json = fs::read_to_string(&report).map_err(|error| format!("report.json: {error}"))?;
    let json: Value = serde_json::from_str(&json)?;
    let of = |name: &str| serde_json::to_string_pretty(&json[name]).unwrap_or_default();
    context.transcript().command("jq .verdict report.json", &of("verdict"));
    context
        .transcript()
        .command("jq '.outcomes | map_values(.count)' report.json", &counts(&json["outcomes"]));
    if code != Some(0) {
        return Err(format!("the load generator ended with {code:?}: {}", of("checks")).into());
    }
    context.flash_sale(&["stock", "audit"])?;
    context.transcript().step("The end");
    for actor in running.into_iter().filter_map(|(_, actor)| actor) {
        context.end(actor)?;
    }
    Ok(())
}

/// Number of orders per outcome, without zeros.
pub(super) fn counts(outcomes: &Value) -> String {
    let lines = outcomes.as_object().into_iter().flatten().filter_map(|(name, outcome)| {
        let count = outcome.get("count").unwrap_or(outcome).as_u64()?;
        (count > 0).then(|| format!("{name}: {count}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Starts `HAProxy` with the deployment's configuration and two gateways by address, because there is no Docker DNS here.
fn balancer(context: &mut DrillContext, edge: &str, gateways: &[Service]) -> Result<Guarded> {
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
            // Enough for 32 connections; a developer's machine may allow only few file descriptors.
            "maxconn 40000" => changed.push_str("    maxconn 1000\n"),
            "bind :8080" => changed.extend(["    bind ", edge, "\n"]),
            "bind 127.0.0.1:8404" | "bind :9090" => {
                changed.extend(["    bind 127.0.0.1:", &free_port().to_string(), "\n"]);
            }
            _ => changed.extend([line, "\n"]),
        }
    }
    let config = context.stage.dir().join("haproxy.cfg");
    fs::write(&config, changed).map_err(|error| format!("haproxy.cfg: {error}"))?;
    let mut command = Command::new(apt::program("haproxy", "haproxy")?);
    command.arg("-f").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let balancer = child::spawn(command).map_err(|error| format!("haproxy: {error}"))?;
    context.transcript().show_as(edge, "127.0.0.1:8080");
    context.transcript().command("haproxy -f deploy/edge/haproxy.cfg &", "");
    context.wait("the balancer has a gateway", Duration::from_secs(20), |_| {
        let is_open = std::net::TcpStream::connect(edge).is_ok()
            && testkit::http::Client::connect(edge)
                .try_get("/health")
                .is_some_and(|response| response.status == 200);
        Ok(if is_open { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    Ok(balancer)
}
