//! Checks documents against the Kubernetes types.
//!
//! The types ignore unknown fields, as the API server does without `--validate=strict`. Therefore each document is
//! deserialized, serialized again and compared: a field that is missing afterwards is unknown.

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reports everything in a document that Kubernetes would not understand.
pub(crate) fn check(document: &Value) -> Vec<String> {
    let kind = (word(&document["apiVersion"]), word(&document["kind"]));
    let complaints = match kind {
        _ if is::<Namespace>(kind) => round_trip::<Namespace>(document),
        _ if is::<ServiceAccount>(kind) => round_trip::<ServiceAccount>(document),
        _ if is::<ConfigMap>(kind) => round_trip::<ConfigMap>(document),
        _ if is::<Service>(kind) => round_trip::<Service>(document),
        _ if is::<Deployment>(kind) => round_trip::<Deployment>(document),
        _ if is::<StatefulSet>(kind) => round_trip::<StatefulSet>(document),
        _ if is::<PodDisruptionBudget>(kind) => round_trip::<PodDisruptionBudget>(document),
        _ if is::<HorizontalPodAutoscaler>(kind) => round_trip::<HorizontalPodAutoscaler>(document),
        _ if is::<NetworkPolicy>(kind) => round_trip::<NetworkPolicy>(document),
        (version, kind) => vec![format!("unknown kind {kind} of {version}")],
    };
    let name = format!("{} {}", kind.1, word(&document["metadata"]["name"]));
    complaints.into_iter().map(|line| format!("{name}: {line}")).collect()
}

fn is<T: Resource>((version, kind): (&str, &str)) -> bool {
    version == T::API_VERSION && kind == T::KIND
}

fn round_trip<T: DeserializeOwned + Serialize>(document: &Value) -> Vec<String> {
    let written = serde_json::from_value::<T>(document.clone()).and_then(serde_json::to_value);
    let mut complaints = Vec::new();
    match written {
        Ok(written) => compare(document, &written, "", &mut complaints),
        Err(error) => complaints.push(error.to_string()),
    }
    complaints
}

/// Reports every part of `given` that differs in `written`.
fn compare(given: &Value, written: &Value, path: &str, complaints: &mut Vec<String>) {
    match (given, written) {
        (Value::Object(given), Value::Object(written)) => {
            for (key, value) in given {
                let path = format!("{path}.{key}");
                match written.get(key) {
                    Some(written) => compare(value, written, &path, complaints),
                    None => complaints.push(format!("{path}: unknown field")),
                }
            }
        }
        (Value::Array(given), Value::Array(written)) if given.len() == written.len() => {
            for (index, (given, written)) in given.iter().zip(written).enumerate() {
                compare(given, written, &format!("{path}[{index}]"), complaints);
            }
        }
        _ if given == written => {}
        _ => complaints.push(format!("{path}: {given} is read as {written}")),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::check;
    use serde_json::{Value, json};

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{
                "name": "gateway", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
            }]}}},
        })
    }

    #[test]
    fn valid_document_has_no_complaints() {
        assert_eq!(check(&deployment()), Vec::<String>::new());
    }

    #[test]
    fn misspelt_field_is_reported_with_its_path() {
        let mut wrong = deployment();
        let pod = &mut wrong["spec"]["template"]["spec"];
        pod["terminationGracePeriodSecond"] = json!(45);
        pod["containers"][0]["readinessProbe"]["httpGet"]["pathh"] = json!("/live");
        assert_eq!(
            check(&wrong),
            [
                "Deployment gateway: .spec.template.spec.containers[0].readinessProbe.httpGet.pathh: unknown field",
                "Deployment gateway: .spec.template.spec.terminationGracePeriodSecond: unknown field",
            ]
        );
    }

    #[test]
    fn value_of_wrong_type_is_reported() {
        let mut wrong = deployment();
        wrong["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!("45");
        assert_eq!(check(&wrong).len(), 1);
        let config =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"A": 16}});
        assert_eq!(check(&config).len(), 1);
    }

    #[test]
    fn unknown_kind_or_wrong_group_is_reported() {
        assert_eq!(check(&json!({"apiVersion": "apps/v1", "kind": "Deploymnt"})).len(), 1);
        assert_eq!(check(&json!({"apiVersion": "v1", "kind": "Deployment"})).len(), 1);
    }
}
