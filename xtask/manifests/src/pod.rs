//! Rules for the gateway and processor pods: probes, termination and privileges.

use serde_json::{Value, json};
use settings::kind::parse_duration_ms;
use settings::table;

/// Applies all rules to the pods of a deployment whose process listens on `port`.
pub(crate) fn all(deployment: &Value, name: &str, port: i64) -> Vec<String> {
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    if container["name"] != name || container["args"] != json!([name]) {
        return vec![format!("no deployment runs `flash-sale {name}`")];
    }
    let mut complaints = probes(container, port);
    complaints.extend(termination(pod, container, name == "gateway"));
    complaints.extend(privileges(pod, container));
    if container["envFrom"] != json!([{"configMapRef": {"name": "flash-sale"}}]) {
        complaints.push("it does not read the ConfigMap".to_owned());
    }
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    if rolling["maxUnavailable"] != 0 {
        complaints.push("a rollout stops a pod before its replacement is ready".to_owned());
    }
    complaints
}

/// The liveness and startup probes must use `/live`, the readiness probe `/health`.
fn probes(container: &Value, port: i64) -> Vec<String> {
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
            complaints.push(format!("{probe} does not request {path} on port {named}"));
        }
    }
    complaints
}

/// The grace period must be long enough to finish orders in flight after every load balancer has removed the pod.
fn termination(pod: &Value, container: &Value, is_behind_a_balancer: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap_or(0);
    if is_behind_a_balancer && sleep_s < 1 {
        complaints.push("preStop does not wait until the load balancers have removed the pod".to_owned());
    }
    let shutdown_s = parse_duration_ms(table::SHUTDOWN_TIMEOUT.default).unwrap_or(0) as i64 / 1000;
    let grace_s = pod["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    if grace_s <= sleep_s + shutdown_s {
        complaints.push(format!(
            "terminationGracePeriodSeconds is {grace_s}, not longer than preStop ({sleep_s}) plus SHUTDOWN_TIMEOUT \
             ({shutdown_s})"
        ));
    }
    complaints
}

/// The pod must have only the privileges that it needs.
fn privileges(pod: &Value, container: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut require = |holds: bool, complaint: &str| {
        if !holds {
            complaints.push(complaint.to_owned());
        }
    };
    let (of_pod, of_container) = (&pod["securityContext"], &container["securityContext"]);
    require(of_pod["runAsNonRoot"] == true, "it may run as root");
    let seccomp = of_pod["seccompProfile"]["type"].as_str().unwrap_or_default();
    require(["RuntimeDefault", "Localhost"].contains(&seccomp), "it has no seccomp profile");
    require(of_container["allowPrivilegeEscalation"] == false, "it may gain privileges");
    require(of_container["readOnlyRootFilesystem"] == true, "its root file system is writable");
    require(of_container["capabilities"] == json!({"drop": ["ALL"]}), "it keeps capabilities");
    require(
        pod["enableServiceLinks"] == false,
        "enableServiceLinks adds every service of the namespace to its environment",
    );
    for (kind, limit) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
        require(!container["resources"][kind][limit].is_null(), &format!("it has no {kind} of {limit}"));
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
    fn valid_deployment_has_no_complaints() {
        assert_eq!(all(&deployment(), "gateway", 8080), Vec::<String>::new());
    }

    /// Sets the value at this pointer and expects exactly one complaint, which contains `text`.
    fn reports(pointer: &str, value: Value, text: &str) {
        let mut wrong = deployment();
        *wrong.pointer_mut(pointer).expect("the pointer is valid") = value;
        let complaints = all(&wrong, "gateway", 8080);
        assert!(complaints.len() == 1 && complaints[0].contains(text), "{pointer}: {complaints:?}");
    }

    #[test]
    fn every_wrong_field_is_reported() {
        let pod = "/spec/template/spec";
        let container = "/spec/template/spec/containers/0";
        reports("/spec/strategy/rollingUpdate/maxUnavailable", json!(1), "rollout");
        reports(&format!("{pod}/terminationGracePeriodSeconds"), json!(35), "not longer");
        reports(&format!("{pod}/securityContext/runAsNonRoot"), json!(false), "root");
        reports(&format!("{pod}/securityContext/seccompProfile/type"), json!("Unconfined"), "seccomp");
        reports(&format!("{pod}/enableServiceLinks"), json!(true), "environment");
        reports(&format!("{container}/args"), json!(["processor"]), "no deployment runs");
        reports(&format!("{container}/envFrom"), json!([]), "ConfigMap");
        reports(&format!("{container}/ports/0/containerPort"), json!(80), "no port 8080");
        reports(&format!("{container}/readinessProbe/httpGet/path"), json!("/live"), "readinessProbe");
        reports(&format!("{container}/livenessProbe/httpGet/port"), json!("metrics"), "livenessProbe");
        reports(&format!("{container}/lifecycle/preStop/sleep/seconds"), json!(0), "preStop");
        reports(&format!("{container}/resources/limits"), json!({}), "no limits of memory");
        reports(&format!("{container}/securityContext/capabilities"), json!({}), "capabilities");
    }
}
