//! Property: Grafana shows the dashboard as intended: panels do not overlap, each has a unit, a description and queries, all
//! queries use the selected data source, all variables are defined and used, and the provisioned files are where compose
//! mounts them. Method: the JSON is parsed and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use dashboard::{Query, dashboard, file, panels, queries};

use crate::dashboard;

const COLUMNS: u64 = 24;
const SOURCE: &str = "${datasource}";
const DATA_SOURCE_UID: &str = "flash-sale-prometheus";
/// Variables set by Grafana.
const BUILT_IN: [&str; 1] = ["__rate_interval"];

#[test]
fn panels_do_not_overlap_and_are_described() {
    let dashboard = dashboard();
    assert_eq!(dashboard["schemaVersion"], 39, "the version of Grafana 11.3");
    assert_eq!(dashboard["uid"], "flash-sale");
    assert_eq!(dashboard["id"], Value::Null, "Grafana assigns the id");
    let (mut ids, mut titles, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut row = "";
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(
            ids.insert(panel["id"].as_u64().filter(|&id| id > 0).expect("an id")),
            "{title}: its id is taken"
        );
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{title}: {name}"));
        let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title} exceeds the {COLUMNS} columns");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            if let Some(other) = taken.insert(cell, title) {
                panic!("{title} overlaps {other} at {cell:?}");
            }
        }
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        assert!(titles.insert((row, title)), "{row}: {title} appears twice");
        let about = panel["description"].as_str().unwrap_or_default();
        assert!(about.len() > 30 && about.ends_with('.'), "{title}: {about:?} is not a useful description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} has no query");
        let mut refs = BTreeSet::new();
        for target in targets {
            assert!(target["expr"].as_str().is_some_and(|expr| !expr.is_empty()), "{title}: {target}");
            assert!(refs.insert(target["refId"].as_str().expect("a refId")), "{title}: {target}");
        }
    }
    let wanted = [
        "Now",
        "Intake",
        "Latency",
        "Breaker",
        "Redis",
        "Kafka",
        "Processor",
        "Dead letters",
        "Stock",
        "Instances",
    ];
    let rows: Vec<&str> = panels(&dashboard)
        .iter()
        .filter(|panel| panel["type"] == "row")
        .filter_map(|row| row["title"].as_str())
        .collect();
    assert_eq!(rows, wanted);
}

/// Every `datasource` in a value, at any depth.
fn sources<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| sources(item, found)),
        Value::Object(fields) => {
            found.extend(fields.get("datasource"));
            fields.values().for_each(|field| sources(field, found));
        }
        _ => {}
    }
}

#[test]
fn all_queries_use_the_selected_data_source() {
    let dashboard = dashboard();
    let mut found = Vec::new();
    sources(&dashboard, &mut found);
    let (built_in, selected): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|source| source["type"] == "grafana");
    assert_eq!(built_in.len(), 1, "only Grafana's built-in annotations use another data source");
    for source in selected {
        assert_eq!(source, &serde_json::json!({"type": "prometheus", "uid": SOURCE}));
    }
    for panel in panels(&dashboard).iter().filter(|panel| panel["type"] != "row") {
        for part in panel["targets"].as_array().expect("targets").iter().chain([panel]) {
            assert!(part["datasource"].is_object(), "{}: no source for {part}", panel["title"]);
        }
    }
}

#[test]
fn variables_are_defined_and_used() {
    let dashboard = dashboard();
    let list = dashboard["templating"]["list"].as_array().expect("variables");
    let defined: BTreeSet<&str> = list.iter().filter_map(|variable| variable["name"].as_str()).collect();
    let mut used = BTreeSet::from(["datasource".to_owned()]);
    for Query { place, expr, .. } in queries(&dashboard) {
        for (at, _) in expr.match_indices('$') {
            let name: String =
                expr[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let is_known = BUILT_IN.contains(&name.as_str()) || defined.contains(name.as_str());
            assert!(is_known, "{place}: ${name} is not a variable");
            used.insert(name);
        }
    }
    for name in defined {
        assert!(used.contains(name), "${name} is not used");
    }
    assert_eq!(list[0]["type"], "datasource");
    assert_eq!(list[0]["current"]["value"], DATA_SOURCE_UID);
}

/// Grafana finds its provisioned files where compose mounts them.
#[test]
fn provisioning_and_compose_agree() {
    let read = |path: &str| fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let compose = read("docker-compose.yml");
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    let provider = read("deploy/grafana/provisioning/dashboards/flash-sale.yml");
    assert!(source.contains(&format!("uid: {DATA_SOURCE_UID}\n")));
    for (from, to) in [
        ("./deploy/grafana/provisioning", "/etc/grafana/provisioning"),
        ("./deploy/grafana/dashboards", "/var/lib/grafana/dashboards"),
        ("./deploy/prometheus", "/etc/prometheus"),
        ("./deploy/alerts.yml", "/etc/flash-sale/alerts.yml"),
    ] {
        assert!(compose.contains(&format!("- {from}:{to}:ro\n")), "{from} is not mounted at {to}");
    }
    assert!(provider.contains("path: /var/lib/grafana/dashboards\n"));
    // The dashboard names the Grafana version it was written for, and compose starts that version.
    let about = dashboard()["description"].as_str().unwrap_or_default().to_owned();
    assert!(about.contains("Grafana 11.3"), "{about}");
    assert!(compose.contains("image: grafana/grafana:11.3."));
    // $__rate_interval depends on the scrape interval.
    let interval = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let scraped = interval(&read("deploy/prometheus/prometheus.yml"), "scrape_interval");
    assert_eq!(interval(&source, "timeInterval"), scraped);
}
