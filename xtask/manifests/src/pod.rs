//! What must hold of one of our pods: how it is asked, how it ends, and what it may do.

use serde_json::{Value, json};
use settings::kind::parse_duration_ms;
use settings::table;

/// All rules, of the pods of a deployment whose process listens on `port`.
pub(crate) fn all(deployment: &Value, name: &str, port: i64) -> Vec<String> {
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    if container["name"] != name || container["args"] != json!([name]) {
        return vec![format!("no deployment runs `flash-sale {name}`")];
    }
    let mut complaints = asked(container, port);
    complaints.extend(ended(pod, container, name == "gateway"));
    complaints.extend(narrow(pod, container));
    if container["envFrom"] != json!([{"configMapRef": {"name": "flash-sale"}}]) {
        complaints.push("it does not read the ConfigMap".to_owned());
    }
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    if rolling["maxUnavailable"] != 0 {
        complaints.push("a rollout takes one away before another is ready".to_owned());
    }
    complaints
}

/// Alive while it turns, ready while it wants orders, and given time to start.
fn asked(container: &Value, port: i64) -> Vec<String> {
    let mut complaints = Vec::new();
    let named =
        container["ports"].as_array().into_iter().flatten().find(|found| found["containerPort"] == port);
    let Some(named) = named.map(|found| &found["name"]) else {
        return vec![format!("it has no port {port}")];
    };
    for (probe, path) in
        [("livenessProbe", "/live"), ("readinessProbe", "/health"), ("startupProbe", "/live")]
    {
        let get = &container[probe]["httpGet"];
        if get["path"] != path || &get["port"] != named {
            complaints.push(format!("{probe} does not ask {path} of port {named}"));
        }
    }
    complaints
}

/// It has the time for the orders on the road, after every balancer has forgotten it.
fn ended(pod: &Value, container: &Value, is_behind_a_balancer: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap_or(0);
    if is_behind_a_balancer && sleep_s < 1 {
        complaints.push("preStop does not wait until the balancers know".to_owned());
    }
    let shutdown_s = parse_duration_ms(table::SHUTDOWN_TIMEOUT.default).unwrap_or(0) as i64 / 1000;
    let grace_s = pod["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    if grace_s <= sleep_s + shutdown_s {
        complaints.push(format!(
            "terminationGracePeriodSeconds is {grace_s}, not longer than preStop ({sleep_s}) and SHUTDOWN_TIMEOUT \
             ({shutdown_s})"
        ));
    }
    complaints
}

/// As few rights as it can live with.
fn narrow(pod: &Value, container: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut wants = |is_so: bool, complaint: &str| {
        if !is_so {
            complaints.push(complaint.to_owned());
        }
    };
    let (of_pod, of_container) = (&pod["securityContext"], &container["securityContext"]);
    wants(of_pod["runAsNonRoot"] == true, "it may run as root");
    let seccomp = of_pod["seccompProfile"]["type"].as_str().unwrap_or_default();
    wants(["RuntimeDefault", "Localhost"].contains(&seccomp), "it has no seccomp profile");
    wants(of_container["allowPrivilegeEscalation"] == false, "it may gain rights");
    wants(of_container["readOnlyRootFilesystem"] == true, "its root can be written");
    wants(of_container["capabilities"] == json!({"drop": ["ALL"]}), "it keeps capabilities");
    wants(pod["enableServiceLinks"] == false, "every service of the namespace is in its environment");
    for (kind, limit) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
        wants(!container["resources"][kind][limit].is_null(), &format!("it has no {kind} of {limit}"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::all;
    use serde_json::{Value, json};

    fn deployment() -> Value {
        let get = |path: &str| json!({"httpGet": {"path": path, "port": "http"}});
        json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 0}}, "template": {"spec": {
            "terminationGracePeriodSeconds": 45, "enableServiceLinks": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "gateway", "args": ["gateway"],
                "envFrom": [{"configMapRef": {"name": "flash-sale"}}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "livenessProbe": get("/live"), "readinessProbe": get("/health"), "startupProbe": get("/live"),
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "resources": {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"memory": "1Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
            }],
        }}}})
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(all(&deployment(), "gateway", 8080), Vec::<String>::new());
    }

    /// Sets what is at this pointer, and expects one complaint that says so.
    fn finds(pointer: &str, value: Value, says: &str) {
        let mut wrong = deployment();
        *wrong.pointer_mut(pointer).expect("it is there") = value;
        let complaints = all(&wrong, "gateway", 8080);
        assert!(complaints.len() == 1 && complaints[0].contains(says), "{pointer}: {complaints:?}");
    }

    #[test]
    fn each_thing_that_is_wrong_is_found() {
        let pod = "/spec/template/spec";
        let container = "/spec/template/spec/containers/0";
        finds("/spec/strategy/rollingUpdate/maxUnavailable", json!(1), "rollout");
        finds(&format!("{pod}/terminationGracePeriodSeconds"), json!(35), "not longer");
        finds(&format!("{pod}/securityContext/runAsNonRoot"), json!(false), "root");
        finds(&format!("{pod}/securityContext/seccompProfile/type"), json!("Unconfined"), "seccomp");
        finds(&format!("{pod}/enableServiceLinks"), json!(true), "environment");
        finds(&format!("{container}/args"), json!(["processor"]), "no deployment runs");
        finds(&format!("{container}/envFrom"), json!([]), "ConfigMap");
        finds(&format!("{container}/ports/0/containerPort"), json!(80), "no port 8080");
        finds(&format!("{container}/readinessProbe/httpGet/path"), json!("/live"), "readinessProbe");
        finds(&format!("{container}/livenessProbe/httpGet/port"), json!("metrics"), "livenessProbe");
        finds(&format!("{container}/lifecycle/preStop/sleep/seconds"), json!(0), "preStop");
        finds(&format!("{container}/resources/limits"), json!({}), "no limits of memory");
        finds(&format!("{container}/securityContext/capabilities"), json!({}), "capabilities");
    }
}
