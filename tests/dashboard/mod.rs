//! Reads the dashboard and the rules of the deployment for tests.
#![allow(dead_code, unreachable_pub, reason = "each test uses only parts of this module")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;

/// A file of the repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The dashboard.
pub fn dashboard() -> Value {
    let path = file("deploy/grafana/dashboards/flash-sale.json");
    let text = fs::read_to_string(path).expect("the dashboard exists");
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

/// The panels of the dashboard, including rows.
pub fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("panels")
}

/// A Prometheus query of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Panel and target of the query.
    pub place: String,
    /// The expression as written, with variables.
    pub expr: String,
    /// The legend of a series, with its labels as `{{label}}`.
    pub legend: String,
}

/// Every query of every panel.
pub fn queries(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |name: &str| target[name].as_str().unwrap_or_default().to_owned();
            let title = panel["title"].as_str().unwrap_or_default();
            queries.push(Query {
                place: format!("{title}, {}", text("refId")),
                expr: text("expr"),
                legend: text("legendFormat"),
            });
        }
    }
    queries
}

/// The queries of variables, `label_values(metric, label)`, as metric and label.
pub fn variable_queries(dashboard: &Value) -> Vec<(String, String)> {
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let query = |variable: &Value| {
        let text = variable["query"]["query"].as_str()?;
        let (metric, label) = text.strip_prefix("label_values(")?.strip_suffix(')')?.split_once(", ")?;
        Some((metric.to_owned(), label.to_owned()))
    };
    variables
        .iter()
        .filter(|variable| variable["type"] == "query")
        .map(|v| query(v).expect("label_values"))
        .collect()
}

/// The expression that Grafana sends when all instances and items are selected.
pub fn expand_variables(expr: &str) -> String {
    ["$gateway", "$processor", "$item"]
        .iter()
        .fold(expr.replace("$__rate_interval", "1m"), |expr, variable| expr.replace(variable, ".*"))
}

/// The rule groups of a rule file: name of the record or alert, and expression.
pub fn rules(path: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(file(path)).expect("the rules exist");
    let documents = Yaml::load_from_str(&text).expect("the rules are YAML");
    let mut rules = Vec::new();
    for group in documents[0]["groups"].as_sequence().expect("groups") {
        for rule in group["rules"].as_sequence().expect("rules") {
            let text = |name: &str| rule.as_mapping_get(name).and_then(Yaml::as_str).map(str::to_owned);
            let name = text("record").or_else(|| text("alert")).expect("a record or an alert");
            rules.push((name, text("expr").expect("an expression")));
        }
    }
    rules
}

/// The metrics that an expression names.
pub fn metrics(expr: &str) -> BTreeSet<String> {
    const WORDS: [&str; 4] = ["and", "or", "unless", "bool"];
    const WITH_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let mut found = BTreeSet::new();
    let mut rest = expr;
    let beyond = |rest: &str, end: char| rest[1..].find(end).map_or(rest.len(), |at| at + 2);
    while let Some(first) = rest.chars().next() {
        let len =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        match first {
            '"' | '\'' => rest = &rest[beyond(rest, first)..],
            '{' => rest = &rest[beyond(rest, '}')..],
            '[' => rest = &rest[beyond(rest, ']')..],
            // A number, such as 0.5 or 1e6.
            '0'..='9' => rest = &rest[len..],
            _ if len > 0 => {
                let (word, after) = rest.split_at(len);
                rest = after.trim_start();
                // An aggregation may have its labels before its parentheses.
                let is_aggregation =
                    ["by ", "by(", "without ", "without("].iter().any(|by| rest.starts_with(by));
                if WITH_LABELS.contains(&word) {
                    rest = &rest[if rest.starts_with('(') { beyond(rest, ')') } else { 0 }..];
                } else if !is_aggregation && !WORDS.contains(&word) && !rest.starts_with('(') {
                    found.insert(word.to_owned());
                }
            }
            _ => rest = &rest[first.len_utf8()..],
        }
    }
    found
}
