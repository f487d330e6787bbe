//! What must hold of a loaded compose project. Each rule is a function from the project to complaints.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::{Map, Value};
use settings::BadSettings;
use settings::kind::parse_duration_ms;
use settings::read::Reader;
use settings::table::{self, Role};

use crate::workspace;

/// As the runbook's commands expect, `flash-sale-engine-redis-1`.
const NAME: &str = "flash-sale-engine";
/// Always there; the runbook's commands name the first four.
const SERVICES: [&str; 7] = ["redis", "redpanda", "gateway", "processor", "edge", "prometheus", "grafana"];
/// Asked to stop, and given time for the orders on the road.
const DRAINING: [&str; 3] = ["gateway", "processor", "edge"];
/// What the runbook backs up, by its full name.
const VOLUME: (&str, &str) = ("redpanda-data", "flash-sale-engine_redpanda-data");
/// Ports the runbook's commands ask on this host.
const PORTS: [&str; 2] = ["8080", "9090"];
/// Our own image.
const IMAGE: &str = "flash-sale-engine";

/// All rules; `added` are the services of the active profile.
pub(super) fn all(project: &Value, added: &[&str]) -> Vec<String> {
    let mut complaints = named(project, added);
    for (name, service) in pairs(&project["services"]) {
        let image = pinned(service["image"].as_str().unwrap_or_default());
        let lines = image.into_iter().chain(keeps_running(service)).chain(mounts(service));
        complaints.extend(lines.map(|line| format!("{name}: {line}")));
    }
    for name in DRAINING {
        complaints.extend(grace(&project["services"][name]).map(|line| format!("{name}: {line}")));
    }
    for (name, role) in [("gateway", Role::Gateway), ("processor", Role::Processor)] {
        let service = &project["services"][name];
        let lines =
            environment(service, role).into_iter().chain(narrow(service)).chain(health(service, role));
        complaints.extend(lines.map(|line| format!("{name}: {line}")));
    }
    complaints
}

/// The names that commands of the runbook and of our documents use.
fn named(project: &Value, added: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    if project["name"] != NAME {
        complaints.push(format!("the project is {}, not {NAME}", project["name"]));
    }
    let wanted: BTreeSet<&str> = SERVICES.iter().chain(added).copied().collect();
    let found: BTreeSet<&str> = pairs(&project["services"]).map(|(name, _)| name).collect();
    if wanted != found {
        complaints.push(format!("the services are {found:?}, not {wanted:?}"));
    }
    let (volume, full) = VOLUME;
    if project["volumes"][volume]["name"] != full {
        complaints.push(format!("the volume {volume} is not {full}"));
    }
    let published: BTreeSet<&str> = pairs(&project["services"])
        .flat_map(|(_, service)| items(&service["ports"]))
        .filter_map(|port| port["published"].as_str())
        .collect();
    let missing = PORTS.iter().filter(|port| !published.contains(*port));
    complaints.extend(missing.map(|port| format!("nothing is published on port {port}")));
    complaints
}

/// Pinned by a full version; our own by the version of this tree.
pub(crate) fn pinned(image: &str) -> Option<String> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, ""));
    let own = env!("CARGO_PKG_VERSION");
    if name == IMAGE && tag != own {
        return Some(format!("{image} is not of version {own}"));
    }
    (!is_full_version(tag)).then(|| format!("the image {image:?} is not pinned by a full version"))
}

/// `7.2.7-bookworm`, `v24.2.7`; not `7`, `7.2` or `latest`.
fn is_full_version(tag: &str) -> bool {
    let numbers = tag.strip_prefix('v').unwrap_or(tag).split('-').next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers.split('.').count() >= 3 && numbers.split('.').all(is_number)
}

/// What is to run for long says how it is, and is bounded.
fn keeps_running(service: &Value) -> Vec<String> {
    if service["restart"] == "no" {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    if items(&service["healthcheck"]["test"]).next().is_none() {
        complaints.push("it has no health check".to_owned());
    }
    for limit in ["cpus", "memory"] {
        if service["deploy"]["resources"]["limits"][limit].is_null() {
            complaints.push(format!("it has no limit of {limit}"));
        }
    }
    if service["logging"]["options"]["max-size"].is_null() {
        complaints.push("its log has no limit".to_owned());
    }
    complaints
}

/// What it only reads is in this tree; an engine would make an empty folder of a name that is wrong.
fn mounts(service: &Value) -> Vec<String> {
    let is_read = |mount: &&Value| mount["type"] == "bind" && mount["read_only"] == true;
    let sources = items(&service["volumes"]).filter(is_read).filter_map(|mount| mount["source"].as_str());
    let missing = sources.filter(|source| !Path::new(source).exists());
    missing.map(|source| format!("{source} is mounted and does not exist")).collect()
}

/// Longer than the orders on the road may take.
fn grace(service: &Value) -> Option<String> {
    let shutdown =
        service["environment"]["SHUTDOWN_TIMEOUT"].as_str().unwrap_or(table::SHUTDOWN_TIMEOUT.default);
    let grace = service["stop_grace_period"].as_str().unwrap_or("10s");
    let is_longer = parse_duration_ms(grace) > parse_duration_ms(shutdown);
    (!is_longer)
        .then(|| format!("stop_grace_period is {grace}, not longer than SHUTDOWN_TIMEOUT ({shutdown})"))
}

/// Variables that its role reads, with values that it accepts.
fn environment(service: &Value, role: Role) -> Vec<String> {
    let variables: HashMap<&str, &str> = pairs(&service["environment"])
        .map(|(name, value)| (name, value.as_str().unwrap_or_default()))
        .collect();
    let is_read = |name: &str| {
        let setting = table::ALL.iter().find(|setting| setting.name == name);
        setting.is_some_and(|setting| setting.role == Role::Both || setting.role == role)
    };
    let strange = variables.keys().filter(|name| !is_read(name));
    let mut complaints: Vec<String> =
        strange.map(|name| format!("{name} is no variable that it reads")).collect();
    complaints.sort();
    let lookup = |name: &str| variables.get(name).map(|&value| value.to_owned());
    let mut reader = Reader::new(HashMap::new(), &lookup);
    if role == Role::Gateway {
        reader.gateway();
    } else {
        reader.processor();
    }
    if let Err(BadSettings(lines)) = reader.finish() {
        complaints.extend(lines);
    }
    complaints.extend(reader.notices().iter().cloned());
    complaints
}

/// As few rights as it can live with: no more than that, and no less than `io_uring` needs.
fn narrow(service: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let options: Vec<&str> = items(&service["security_opt"]).filter_map(Value::as_str).collect();
    if !options.contains(&"no-new-privileges:true") {
        complaints.push("it may gain rights: security_opt has no no-new-privileges".to_owned());
    }
    // Compose reads the file beside itself and hands its text to the engine.
    let profile = options.iter().find_map(|option| option.strip_prefix("seccomp:"));
    if profile.is_none_or(|path| !workspace::root().join(path).is_file()) {
        complaints.push("it has no seccomp profile of this tree; Docker's own forbids io_uring".to_owned());
    }
    if service["read_only"] != true {
        complaints.push("its root can be written".to_owned());
    }
    if service["cap_drop"] != serde_json::json!(["ALL"]) {
        complaints.push("it keeps capabilities".to_owned());
    }
    for limit in ["nofile", "memlock"] {
        if service["ulimits"][limit].is_null() {
            complaints.push(format!("ulimits has no {limit}"));
        }
    }
    complaints
}

/// The health command asks where the process listens.
fn health(service: &Value, role: Role) -> Vec<String> {
    let setting = if role == Role::Gateway { &table::LISTEN_ADDR } else { &table::METRICS_ADDR };
    let address = service["environment"][setting.name].as_str().unwrap_or(setting.default);
    let port = address.rsplit(':').next().unwrap_or_default();
    let words: Vec<&str> = items(&service["healthcheck"]["test"]).filter_map(Value::as_str).collect();
    let wanted = ["CMD", "/usr/local/bin/flash-sale", "health", "--addr", &format!("127.0.0.1:{port}")];
    if words == wanted { Vec::new() } else { vec![format!("the health check is {words:?}, not {wanted:?}")] }
}

/// The members of an object; none where there is no object.
fn pairs(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
}

/// The elements of an array; none where there is no array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_is_full_or_it_is_not_one() {
        for full in ["7.2.7-bookworm", "v24.2.7", "4.1.0", "3.0.6-alpine"] {
            assert!(is_full_version(full), "{full}");
        }
        for part in ["", "latest", "7", "7.2", "7.2-bookworm", "v1.x.2", "stable-1.2.3"] {
            assert!(!is_full_version(part), "{part}");
        }
        assert!(pinned("redis").is_some() && pinned("redis:7.2.7").is_none());
        assert!(pinned("flash-sale-engine:9.9.9").is_some_and(|line| line.contains("not of version")));
    }

    #[test]
    fn a_service_without_health_or_limits_is_found() {
        let limits = json!({"resources": {"limits": {"cpus": 1, "memory": "1"}}});
        let log = json!({"options": {"max-size": "1m"}});
        let mut service = json!({"healthcheck": {"test": ["CMD", "true"]}, "deploy": limits, "logging": log});
        assert_eq!(keeps_running(&service), Vec::<String>::new());
        service["deploy"]["resources"]["limits"]["memory"] = Value::Null;
        assert_eq!(keeps_running(&service), ["it has no limit of memory"]);
        assert_eq!(keeps_running(&json!({})).len(), 4);
        assert_eq!(keeps_running(&json!({"restart": "no"})), Vec::<String>::new());
    }

    #[test]
    fn the_grace_is_longer_than_the_orders_on_the_road_may_take() {
        assert_eq!(grace(&json!({"stop_grace_period": "35s"})), None);
        assert!(grace(&json!({})).is_some());
        assert!(grace(&json!({"stop_grace_period": "30s"})).is_some());
        let slow = json!({"stop_grace_period": "35s", "environment": {"SHUTDOWN_TIMEOUT": "1m"}});
        assert!(grace(&slow).is_some());
    }

    #[test]
    fn variables_are_those_that_the_role_reads_with_values_that_it_accepts() {
        let right = json!({"environment": {"REDIS_ADDR": "redis:6379", "RATE_LIMIT_WINDOW": "1m"}});
        assert_eq!(environment(&right, Role::Gateway), Vec::<String>::new());
        let strange = environment(&right, Role::Processor);
        assert_eq!(strange, ["RATE_LIMIT_WINDOW is no variable that it reads"]);
        let wrong = json!({"environment": {"KAFKA_LINGERS": "1ms", "WORKERS": "0"}});
        assert_eq!(environment(&wrong, Role::Gateway).len(), 2);
    }

    #[test]
    fn the_names_of_the_runbook_are_kept() {
        let services: Map<String, Value> =
            SERVICES.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        let mut project = json!({
            "name": NAME, "services": services,
            "volumes": {"redpanda-data": {"name": "flash-sale-engine_redpanda-data"}},
        });
        project["services"]["edge"] = json!({"ports": [{"published": "8080"}, {"published": "9090"}]});
        assert_eq!(named(&project, &[]), Vec::<String>::new());
        assert_eq!(named(&project, &["kafka"]).len(), 1);
        project["name"] = json!("another");
        project["services"]["edge"] = json!({});
        assert_eq!(named(&project, &[]).len(), 3);
    }

    #[test]
    fn rights_beyond_need_and_a_health_command_to_nowhere_are_found() {
        assert_eq!(narrow(&json!({})).len(), 6);
        let test = ["CMD", "/usr/local/bin/flash-sale", "health", "--addr", "127.0.0.1:8080"];
        let mut service = json!({"healthcheck": {"test": test}});
        assert_eq!(health(&service, Role::Gateway), Vec::<String>::new());
        assert_eq!(health(&service, Role::Processor).len(), 1);
        service["environment"] = json!({"LISTEN_ADDR": "0.0.0.0:80"});
        assert_eq!(health(&service, Role::Gateway).len(), 1);
    }
}
