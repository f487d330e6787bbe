//! What must hold of a deployment. Each rule is a function from the manifests of one rendering to complaints.

use std::collections::BTreeMap;

use serde_json::Value;
use settings::table;

use crate::{pod, strict};

/// What scales the processor.
const LAG: &str = "processor_consumer_lag";

/// All rules.
pub(crate) fn judge(manifests: &[Value]) -> Vec<String> {
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
            .chain(scaled(manifests, deployment, name))
            .chain(kept(manifests, name))
            .chain(fenced(manifests, name));
        complaints.extend(lines.map(|line| format!("{name}: {line}")));
    }
    complaints
}

/// The adapter makes exactly the metric that scales the processor.
pub(crate) fn adapter(documents: &[Value]) -> Vec<String> {
    let rules = documents.first().map_or(&Value::Null, |values| &values["rules"]["custom"]);
    let makes = |rule: &Value| {
        let series = rule["seriesQuery"].as_str().unwrap_or_default();
        rule["name"]["as"] == LAG && series.starts_with(&format!("{LAG}{{"))
    };
    if items(rules).any(makes) { Vec::new() } else { vec![format!("no rule makes {LAG} of {LAG}")] }
}

/// Every variable there is, at its default, and nothing else.
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
    let strange = given.keys().filter(|name| !wanted.contains_key(*name));
    complaints.extend(strange.map(|name| format!("ConfigMap flash-sale: {name} is no variable")));
    complaints
}

/// Everything is in one namespace, which allows no more than it needs.
fn namespaces(manifests: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    let namespace = find(manifests, "Namespace", "flash-sale");
    if namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted" {
        complaints.push("Namespace flash-sale: it does not enforce the level restricted".to_owned());
    }
    for manifest in manifests.iter().filter(|manifest| manifest["kind"] != "Namespace") {
        if manifest["metadata"]["namespace"] != "flash-sale" {
            complaints
                .push(format!("{} {} is in no namespace", manifest["kind"], manifest["metadata"]["name"]));
        }
    }
    complaints
}

/// Every service leads to pods, by a port that they have.
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
            let is_there = |template: &&Value| {
                let ports =
                    items(&template["spec"]["containers"]).flat_map(|container| items(&container["ports"]));
                ports.into_iter().any(|port| &port["name"] == target || &port["containerPort"] == target)
            };
            if !templates.iter().all(is_there) {
                complaints.push(format!("Service {name}: its pods have no port {target}"));
            }
        }
    }
    // Where a rendering brings Redis or Kafka along, the defaults must lead to it.
    for (setting, workload) in [(&table::REDIS_ADDR, "redis"), (&table::KAFKA_ADDR, "kafka")] {
        let (host, port) = setting.default.rsplit_once(':').unwrap_or_default();
        let service = find(manifests, "Service", host);
        let is_brought = !find(manifests, "StatefulSet", workload).is_null();
        let port: Option<u64> = port.parse().ok();
        let leads = items(&service["spec"]["ports"]).any(|found| found["port"].as_u64() == port);
        if is_brought && !leads {
            complaints.push(format!("{} is {}, and no service is there", setting.name, setting.default));
        }
    }
    complaints
}

/// An autoscaler alone says how many there are.
fn scaled(manifests: &[Value], deployment: &Value, name: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let spec = &find(manifests, "HorizontalPodAutoscaler", name)["spec"];
    let target = &spec["scaleTargetRef"];
    if target["kind"] != "Deployment" || target["name"] != name || target["apiVersion"] != "apps/v1" {
        complaints.push("no autoscaler has it as its target".to_owned());
    }
    if !deployment["spec"]["replicas"].is_null() {
        complaints.push("it says replicas: each apply would undo what the autoscaler did".to_owned());
    }
    let (least, most) =
        (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64().unwrap_or(0));
    if least < 2 || most <= least {
        complaints.push(format!("the autoscaler goes from {least} to {most}"));
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
            complaints
                .push(format!("at most {most} of them, for {} partitions", table::ORDERS_PARTITIONS.default));
        }
    }
    complaints
}

/// A drain of a node leaves some of them.
fn kept(manifests: &[Value], name: &str) -> Vec<String> {
    let budget = &find(manifests, "PodDisruptionBudget", name)["spec"];
    let is_of_it = budget["selector"]["matchLabels"]["app.kubernetes.io/name"] == name;
    let says = !budget["minAvailable"].is_null() || !budget["maxUnavailable"].is_null();
    if is_of_it && says { Vec::new() } else { vec!["no disruption budget keeps some of them".to_owned()] }
}

/// Nothing in or out but what a policy names, and that is what it needs.
fn fenced(manifests: &[Value], name: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let policy = of_kind(manifests, "NetworkPolicy").find(|policy| {
        let expressions = &policy["spec"]["podSelector"]["matchExpressions"];
        items(expressions).any(|expression| items(&expression["values"]).any(|value| value == name))
    });
    let Some(policy) = policy.map(|policy| &policy["spec"]) else {
        return vec!["no network policy is about it".to_owned()];
    };
    if policy["policyTypes"] != serde_json::json!(["Ingress", "Egress"]) {
        complaints.push("the network policy is not about both ways".to_owned());
    }
    let opens = |rules: &Value, port: i64| {
        items(rules).flat_map(|rule| items(&rule["ports"])).any(|found| found["port"] == port)
    };
    for address in [table::REDIS_ADDR.default, table::KAFKA_ADDR.default, "dns:53"] {
        if !opens(&policy["egress"], port_of(address)) {
            complaints.push(format!("the network policy keeps it from {address}"));
        }
    }
    for address in [table::LISTEN_ADDR.default, table::METRICS_ADDR.default] {
        if !opens(&policy["ingress"], port_of(address)) {
            complaints.push(format!("the network policy keeps everybody from {address}"));
        }
    }
    complaints
}

/// Whether every label that is asked for is there; no label selects nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    pairs(selector).next().is_some() && pairs(selector).all(|(key, value)| &labels[key] == value)
}

fn port_of(address: &str) -> i64 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
}

fn of_kind<'a>(manifests: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    manifests.iter().filter(move |manifest| manifest["kind"] == kind)
}

/// Null where there is none.
fn find<'a>(manifests: &'a [Value], kind: &'a str, name: &str) -> &'a Value {
    of_kind(manifests, kind).find(|manifest| manifest["metadata"]["name"] == name).unwrap_or(&Value::Null)
}

/// The members of an object; none where there is no object.
fn pairs(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// The elements of an array; none where there is no array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{adapter, config, judge, scaled, selectors};
    use serde_json::{Value, json};
    use settings::table;

    fn full_config() -> Value {
        let data: serde_json::Map<String, Value> =
            table::ALL.iter().map(|setting| (setting.name.to_owned(), json!(setting.default))).collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flash-sale"}, "data": data})
    }

    #[test]
    fn the_config_has_every_variable_at_its_default_and_no_other() {
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
    fn a_service_leads_to_pods_by_a_port_they_have() {
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
    fn replicas_beside_an_autoscaler_are_found() {
        let scaler = json!({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "gateway"}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gateway"},
            "minReplicas": 2, "maxReplicas": 10, "metrics": [{"resource": {"name": "cpu"}}],
        }});
        assert_eq!(scaled(std::slice::from_ref(&scaler), &json!({}), "gateway"), Vec::<String>::new());
        assert_eq!(scaled(&[scaler], &json!({"spec": {"replicas": 4}}), "gateway").len(), 1);
    }

    #[test]
    fn the_adapter_makes_the_metric_that_scales() {
        let rule = |name: &str| {
            json!({"rules": {"custom": [
                {"seriesQuery": "processor_consumer_lag{pod!=\"\"}", "name": {"as": name}}]}})
        };
        assert_eq!(adapter(&[rule("processor_consumer_lag")]), Vec::<String>::new());
        assert_eq!(adapter(&[rule("processor_lag")]).len(), 1);
        assert_eq!(adapter(&[]).len(), 1);
    }

    #[test]
    fn an_empty_rendering_lacks_everything() {
        assert!(judge(&[]).len() > 20);
    }
}
