//! Rules for a deployment. Each rule is a function from the manifests of one rendering to complaints.

use std::collections::BTreeMap;

use serde_json::Value;
use settings::table;

use crate::{pod, strict};

/// The metric that scales the processor.
const LAG: &str = "processor_consumer_lag";

/// Applies all rules.
pub(crate) fn check(manifests: &[Value]) -> Vec<String> {
    let mut complaints: Vec<String> = manifests.iter().flat_map(strict::check).collect();
    complaints.extend(config(manifests));
    complaints.extend(namespaces(manifests));
    complaints.extend(selectors(manifests));
    for (name, address) in
        [("gateway", table::LISTEN_ADDR.default), ("processor", table::METRICS_ADDR.default)]
    {
        let deployment = find(manifests, "Deployment", name);
        let lines = pod::all(deployment, name, port_of(address))
            .into_iter()
            .chain(autoscaling(manifests, deployment, name))
            .chain(disruption(manifests, name))
            .chain(network(manifests, name));
        complaints.extend(lines.map(|line| format!("{name}: {line}")));
    }
    complaints
}

/// The adapter must provide the metric that scales the processor.
pub(crate) fn adapter(documents: &[Value]) -> Vec<String> {
    let rules = documents.first().map_or(&Value::Null, |values| &values["rules"]["custom"]);
    let provides = |rule: &Value| {
        let series = rule["seriesQuery"].as_str().unwrap_or_default();
        rule["name"]["as"] == LAG && series.starts_with(&format!("{LAG}{{"))
    };
    if items(rules).any(provides) { Vec::new() } else { vec![format!("no rule provides {LAG}")] }
}

/// The `ConfigMap` must contain every variable with its default value, and no other.
fn config(manifests: &[Value]) -> Vec<String> {
    let config = find(manifests, "ConfigMap", "flash-sale");
    let given: BTreeMap<&str, &str> =
        pairs(&config["data"]).map(|(name, value)| (name, value.as_str().unwrap_or_default())).collect();
    let wanted: BTreeMap<&str, &str> =
        table::ALL.iter().map(|setting| (setting.name, setting.default)).collect();
    let mut complaints = Vec::new();
    for (name, default) in &wanted {
        match given.get(name) {
            None => complaints.push(format!("ConfigMap flash-sale: {name} is missing")),
            Some(value) if value == default => {}
            Some(value) => {
                complaints
                    .push(format!("ConfigMap flash-sale: {name} is {value:?}, its default is {default:?}"));
            }
        }
    }
    let unknown = given.keys().filter(|name| !wanted.contains_key(*name));
    complaints.extend(unknown.map(|name| format!("ConfigMap flash-sale: {name} is not a known variable")));
    complaints
}

/// All objects must be in the namespace flash-sale, which must enforce the level restricted.
fn namespaces(manifests: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    let namespace = find(manifests, "Namespace", "flash-sale");
    if namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted" {
        complaints.push("Namespace flash-sale: it does not enforce the level restricted".to_owned());
    }
    for manifest in manifests.iter().filter(|manifest| manifest["kind"] != "Namespace") {
        if manifest["metadata"]["namespace"] != "flash-sale" {
            complaints.push(format!(
                "{} {} is not in the namespace flash-sale",
                manifest["kind"], manifest["metadata"]["name"]
            ));
        }
    }
    complaints
}

/// Every service must select pods that have its target port.
fn selectors(manifests: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    for service in of_kind(manifests, "Service") {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let templates: Vec<&Value> = ["Deployment", "StatefulSet"]
            .iter()
            .flat_map(|kind| of_kind(manifests, kind))
            .map(|owner| &owner["spec"]["template"])
            .filter(|template| selects(&service["spec"]["selector"], &template["metadata"]["labels"]))
            .collect();
        if templates.is_empty() {
            complaints.push(format!("Service {name}: it selects no pods"));
        }
        for port in items(&service["spec"]["ports"]) {
            let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
            let has_port = |template: &&Value| {
                let ports =
                    items(&template["spec"]["containers"]).flat_map(|container| items(&container["ports"]));
                ports.into_iter().any(|port| &port["name"] == target || &port["containerPort"] == target)
            };
            if !templates.iter().all(has_port) {
                complaints.push(format!("Service {name}: its pods have no port {target}"));
            }
        }
    }
    // If a rendering contains Redis or Kafka, the default addresses must reach it.
    for (setting, workload) in [(&table::REDIS_ADDR, "redis"), (&table::KAFKA_ADDR, "kafka")] {
        let (host, port) = setting.default.rsplit_once(':').unwrap_or_default();
        let service = find(manifests, "Service", host);
        let is_included = !find(manifests, "StatefulSet", workload).is_null();
        let port: Option<u64> = port.parse().ok();
        let is_reachable = items(&service["spec"]["ports"]).any(|found| found["port"].as_u64() == port);
        if is_included && !is_reachable {
            complaints
                .push(format!("{} is {}, but no service has this address", setting.name, setting.default));
        }
    }
    complaints
}

/// Only an autoscaler may set the number of pods.
fn autoscaling(manifests: &[Value], deployment: &Value, name: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let spec = &find(manifests, "HorizontalPodAutoscaler", name)["spec"];
    let target = &spec["scaleTargetRef"];
    if target["kind"] != "Deployment" || target["name"] != name || target["apiVersion"] != "apps/v1" {
        complaints.push("no autoscaler targets it".to_owned());
    }
    if !deployment["spec"]["replicas"].is_null() {
        complaints.push("it sets replicas: each apply would override the autoscaler".to_owned());
    }
    let (least, most) =
        (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64().unwrap_or(0));
    if least < 2 || most <= least {
        complaints.push(format!(
            "the autoscaler's range is {least} to {most}; it must start at 2 or more and not be empty"
        ));
    }
    let metric = &spec["metrics"][0];
    if name == "gateway" && metric["resource"]["name"] != "cpu" {
        complaints.push("it is not scaled by CPU".to_owned());
    }
    if name == "processor" {
        if metric["pods"]["metric"]["name"] != LAG {
            complaints.push(format!("it is not scaled by {LAG}"));
        }
        if most.to_string() != table::ORDERS_PARTITIONS.default {
            complaints.push(format!(
                "maxReplicas is {most}, but there are {} partitions",
                table::ORDERS_PARTITIONS.default
            ));
        }
    }
    complaints
}

/// A disruption budget must keep some pods while a node is drained.
fn disruption(manifests: &[Value], name: &str) -> Vec<String> {
    let budget = &find(manifests, "PodDisruptionBudget", name)["spec"];
    let is_of_it = budget["selector"]["matchLabels"]["app.kubernetes.io/name"] == name;
    let has_limit = !budget["minAvailable"].is_null() || !budget["maxUnavailable"].is_null();
    if is_of_it && has_limit { Vec::new() } else { vec!["no disruption budget protects it".to_owned()] }
}

/// A network policy must restrict both directions and allow the connections that are needed.
fn network(manifests: &[Value], name: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let policy = of_kind(manifests, "NetworkPolicy").find(|policy| {
        let expressions = &policy["spec"]["podSelector"]["matchExpressions"];
        items(expressions).any(|expression| items(&expression["values"]).any(|value| value == name))
    });
    let Some(policy) = policy.map(|policy| &policy["spec"]) else {
        return vec!["no network policy applies to it".to_owned()];
    };
    if policy["policyTypes"] != serde_json::json!(["Ingress", "Egress"]) {
        complaints.push("the network policy does not cover both ingress and egress".to_owned());
    }
    let opens = |rules: &Value, port: i64| {
        items(rules).flat_map(|rule| items(&rule["ports"])).any(|found| found["port"] == port)
    };
    for address in [table::REDIS_ADDR.default, table::KAFKA_ADDR.default, "dns:53"] {
        if !opens(&policy["egress"], port_of(address)) {
            complaints.push(format!("the network policy blocks connections to {address}"));
        }
    }
    for address in [table::LISTEN_ADDR.default, table::METRICS_ADDR.default] {
        if !opens(&policy["ingress"], port_of(address)) {
            complaints.push(format!("the network policy blocks connections from others to {address}"));
        }
    }
    complaints
}

/// Whether the labels match the selector; an empty selector selects nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    pairs(selector).next().is_some() && pairs(selector).all(|(key, value)| &labels[key] == value)
}

fn port_of(address: &str) -> i64 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
}

fn of_kind<'a>(manifests: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    manifests.iter().filter(move |manifest| manifest["kind"] == kind)
}

/// Finds a manifest; null if there is none.
fn find<'a>(manifests: &'a [Value], kind: &'a str, name: &str) -> &'a Value {
    of_kind(manifests, kind).find(|manifest| manifest["metadata"]["name"] == name).unwrap_or(&Value::Null)
}

/// The members of an object; empty if the value is not an object.
fn pairs(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// The elements of an array; empty if the value is not an array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{adapter, autoscaling, check, config, selectors};
    use serde_json::{Value, json};
    use settings::table;

    fn full_config() -> Value {
        let data: serde_json::Map<String, Value> =
            table::ALL.iter().map(|setting| (setting.name.to_owned(), json!(setting.default))).collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flash-sale"}, "data": data})
    }

    #[test]
    fn config_must_contain_exactly_all_variables_with_defaults() {
        let mut manifest = full_config();
        assert_eq!(config(&[manifest.clone()]), Vec::<String>::new());
        manifest["data"]["KAFKA_LINGERS"] = json!("1ms");
        manifest["data"]["WORKERS"] = json!("2");
        manifest["data"].as_object_mut().expect("an object").remove("LOG_LEVEL");
        let complaints = config(&[manifest]);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert_eq!(config(&[]).len(), table::ALL.len());
    }

    #[test]
    fn service_must_select_pods_with_its_port() {
        let pods = json!({"kind": "Deployment", "spec": {"template": {
            "metadata": {"labels": {"a": "b", "c": "d"}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        }}});
        let service = |selector: Value, target: &str| {
            json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {
                "selector": selector, "ports": [{"port": 80, "targetPort": target}]}})
        };
        let right = service(json!({"a": "b"}), "http");
        assert_eq!(selectors(&[pods.clone(), right]), Vec::<String>::new());
        assert_eq!(selectors(&[pods.clone(), service(json!({"a": "x"}), "http")]).len(), 1);
        assert_eq!(selectors(&[pods, service(json!({"a": "b"}), "https")]).len(), 1);
    }

    #[test]
    fn replicas_with_an_autoscaler_are_reported() {
        let scaler = json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "gateway"}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gateway"},
            "minReplicas": 2, "maxReplicas": 10, "metrics": [{"resource": {"name": "cpu"}}],
        }});
        assert_eq!(autoscaling(std::slice::from_ref(&scaler), &json!({}), "gateway"), Vec::<String>::new());
        assert_eq!(autoscaling(&[scaler], &json!({"spec": {"replicas": 4}}), "gateway").len(), 1);
    }

    #[test]
    fn adapter_must_provide_the_scaling_metric() {
        let rule = |name: &str| {
            json!({"rules": {"custom": [
                {"seriesQuery": "processor_consumer_lag{pod!=\"\"}", "name": {"as": name}}]}})
        };
        assert_eq!(adapter(&[rule("processor_consumer_lag")]), Vec::<String>::new());
        assert_eq!(adapter(&[rule("processor_lag")]).len(), 1);
        assert_eq!(adapter(&[]).len(), 1);
    }

    #[test]
    fn empty_rendering_violates_all_rules() {
        assert!(check(&[]).len() > 20);
    }
}
