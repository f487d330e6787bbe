//! Rules for a loaded compose project. Each rule is a function from the project to complaints.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::{Map, Value};
use settings::BadSettings;
use settings::kind::parse_duration_ms;
use settings::read::Reader;
use settings::table::{self, Role};

use crate::workspace;

/// Project name that the runbook's commands expect, for example in `flash-sale-engine-redis-1`.
const NAME: &str = "flash-sale-engine";
/// Services that always run; the runbook's commands name the first four.
const SERVICES: [&str; 7] = ["redis", "redpanda", "gateway", "processor", "edge", "prometheus", "grafana"];
/// Services that get time to finish orders in flight before they are killed.
const DRAINING: [&str; 3] = ["gateway", "processor", "edge"];
/// The volume that the runbook backs up: its name and full name.
const VOLUME: (&str, &str) = ("redpanda-data", "flash-sale-engine_redpanda-data");
/// Host ports that the runbook's commands use.
const PORTS: [&str; 2] = ["8080", "9090"];
/// The image of this repository.
const IMAGE: &str = "flash-sale-engine";

/// Applies all rules; `added` are the services of the active profile.
pub(super) fn all(project: &Value, added: &[&str]) -> Vec<String> {
    let mut complaints = named(project, added);
    for (name, service) in pairs(&project["services"]) {
        let image = pinned(service["image"].as_str().unwrap_or_default());
        let lines = image.into_iter().chain(limits(service)).chain(mounts(service));
        complaints.extend(lines.map(|line| format!("{name}: {line}")));
    }
    for name in DRAINING {
        complaints.extend(grace(&project["services"][name]).map(|line| format!("{name}: {line}")));
    }
    for (name, role) in [("gateway", Role::Gateway), ("processor", Role::Processor)] {
        let service = &project["services"][name];
        let lines =
            environment(service, role).into_iter().chain(privileges(service)).chain(health(service, role));
        complaints.extend(lines.map(|line| format!("{name}: {line}")));
    }
    complaints
}

/// The names that the commands in the runbook and the documentation use must exist.
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
    complaints.extend(missing.map(|port| format!("no service is published on port {port}")));
    complaints
}

/// Images must be pinned to a full version, this repository's image to the version of this tree.
pub(crate) fn pinned(image: &str) -> Option<String> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, ""));
    let version = env!("CARGO_PKG_VERSION");
    if name == IMAGE && tag != version {
        return Some(format!("{image} is not of version {version}"));
    }
    (!is_full_version(tag)).then(|| format!("the image {image:?} is not pinned to a full version"))
}

/// True for `7.2.7-bookworm` and `v24.2.7`; false for `7`, `7.2` or `latest`.
fn is_full_version(tag: &str) -> bool {
    let numbers = tag.strip_prefix('v').unwrap_or(tag).split('-').next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers.split('.').count() >= 3 && numbers.split('.').all(is_number)
}

/// A long-running service must have a health check and limits on CPU, memory and log size.
fn limits(service: &Value) -> Vec<String> {
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

/// Files mounted read-only must exist in this tree: for a wrong path the engine would create an empty folder.
fn mounts(service: &Value) -> Vec<String> {
    let is_read = |mount: &&Value| mount["type"] == "bind" && mount["read_only"] == true;
    let sources = items(&service["volumes"]).filter(is_read).filter_map(|mount| mount["source"].as_str());
    let missing = sources.filter(|source| !Path::new(source).exists());
    missing.map(|source| format!("{source} is mounted and does not exist")).collect()
}

/// The grace period must be longer than the time limit for orders in flight at shutdown.
fn grace(service: &Value) -> Option<String> {
    let shutdown =
        service["environment"]["SHUTDOWN_TIMEOUT"].as_str().unwrap_or(table::SHUTDOWN_TIMEOUT.default);
    let grace = service["stop_grace_period"].as_str().unwrap_or("10s");
    let is_longer = parse_duration_ms(grace) > parse_duration_ms(shutdown);
    (!is_longer)
        .then(|| format!("stop_grace_period is {grace}, not longer than SHUTDOWN_TIMEOUT ({shutdown})"))
}

/// A service may only set variables that its role reads, with valid values.
fn environment(service: &Value, role: Role) -> Vec<String> {
    let variables: HashMap<&str, &str> = pairs(&service["environment"])
        .map(|(name, value)| (name, value.as_str().unwrap_or_default()))
        .collect();
    let is_read = |name: &str| {
        let setting = table::ALL.iter().find(|setting| setting.name == name);
        setting.is_some_and(|setting| setting.role == Role::Both || setting.role == role)
    };
    let unknown = variables.keys().filter(|name| !is_read(name));
    let mut complaints: Vec<String> =
        unknown.map(|name| format!("it does not read the variable {name}")).collect();
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

/// A service must have only the rights that it needs, including those for `io_uring`.
fn privileges(service: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let options: Vec<&str> = items(&service["security_opt"]).filter_map(Value::as_str).collect();
    if !options.contains(&"no-new-privileges:true") {
        complaints.push("it may gain privileges: security_opt lacks no-new-privileges".to_owned());
    }
    // Compose resolves the path relative to the compose file and passes the content to the engine.
    let profile = options.iter().find_map(|option| option.strip_prefix("seccomp:"));
    if profile.is_none_or(|path| !workspace::root().join(path).is_file()) {
        complaints.push(
            "it has no seccomp profile from this tree; Docker's default profile forbids io_uring".to_owned(),
        );
    }
    if service["read_only"] != true {
        complaints.push("its root file system is writable".to_owned());
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

/// The health check must use the address on which the process listens.
fn health(service: &Value, role: Role) -> Vec<String> {
    let setting = if role == Role::Gateway { &table::LISTEN_ADDR } else { &table::METRICS_ADDR };
    let address = service["environment"][setting.name].as_str().unwrap_or(setting.default);
    let port = address.rsplit(':').next().unwrap_or_default();
    let words: Vec<&str> = items(&service["healthcheck"]["test"]).filter_map(Value::as_str).collect();
    let wanted = ["CMD", "/usr/local/bin/flash-sale", "health", "--addr", &format!("127.0.0.1:{port}")];
    if words == wanted { Vec::new() } else { vec![format!("the health check is {words:?}, not {wanted:?}")] }
}

/// The members of an object; empty if the value is not an object.
fn pairs(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
}

/// The elements of an array; empty if the value is not an array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_full_versions_are_accepted() {
        for full in ["7.2.7-bookworm", "v24.2.7", "4.1.0", "3.0.6-alpine"] {
            assert!(is_full_version(full), "{full}");
        }
        for partial in ["", "latest", "7", "7.2", "7.2-bookworm", "v1.x.2", "stable-1.2.3"] {
            assert!(!is_full_version(partial), "{partial}");
        }
        assert!(pinned("redis").is_some() && pinned("redis:7.2.7").is_none());
        assert!(pinned("flash-sale-engine:9.9.9").is_some_and(|line| line.contains("not of version")));
    }

    #[test]
    fn service_without_health_check_or_limits_is_reported() {
        let resources = json!({"resources": {"limits": {"cpus": 1, "memory": "1"}}});
        let log = json!({"options": {"max-size": "1m"}});
        let mut service =
            json!({"healthcheck": {"test": ["CMD", "true"]}, "deploy": resources, "logging": log});
        assert_eq!(limits(&service), Vec::<String>::new());
        service["deploy"]["resources"]["limits"]["memory"] = Value::Null;
        assert_eq!(limits(&service), ["it has no limit of memory"]);
        assert_eq!(limits(&json!({})).len(), 4);
        assert_eq!(limits(&json!({"restart": "no"})), Vec::<String>::new());
    }

    #[test]
    fn grace_period_must_exceed_shutdown_timeout() {
        assert_eq!(grace(&json!({"stop_grace_period": "35s"})), None);
        assert!(grace(&json!({})).is_some());
        assert!(grace(&json!({"stop_grace_period": "30s"})).is_some());
        let slow = json!({"stop_grace_period": "35s", "environment": {"SHUTDOWN_TIMEOUT": "1m"}});
        assert!(grace(&slow).is_some());
    }

    #[test]
    fn unread_variables_and_invalid_values_are_reported() {
        let right = json!({"environment": {"REDIS_ADDR": "redis:6379", "RATE_LIMIT_WINDOW": "1m"}});
        assert_eq!(environment(&right, Role::Gateway), Vec::<String>::new());
        let unread = environment(&right, Role::Processor);
        assert_eq!(unread, ["it does not read the variable RATE_LIMIT_WINDOW"]);
        let wrong = json!({"environment": {"KAFKA_LINGERS": "1ms", "WORKERS": "0"}});
        assert_eq!(environment(&wrong, Role::Gateway).len(), 2);
    }

    #[test]
    fn missing_runbook_names_are_reported() {
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
    fn excess_privileges_and_wrong_health_address_are_reported() {
        assert_eq!(privileges(&json!({})).len(), 6);
        let test = ["CMD", "/usr/local/bin/flash-sale", "health", "--addr", "127.0.0.1:8080"];
        let mut service = json!({"healthcheck": {"test": test}});
        assert_eq!(health(&service, Role::Gateway), Vec::<String>::new());
        assert_eq!(health(&service, Role::Processor).len(), 1);
        service["environment"] = json!({"LISTEN_ADDR": "0.0.0.0:80"});
        assert_eq!(health(&service, Role::Gateway).len(), 1);
    }
}
