//! Reads Prometheus rule files, as strictly as Prometheus does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use super::duration::duration_ms;
use super::promql::{self, ast::Expr};

/// Maximum file size.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Maximum number of alerts in a file: each becomes a check in the report.
const ALERTS_MAX: usize = 200;

/// An alert of a rule file.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Name of the alert.
    pub name: String,
    /// The condition as written, in one line.
    pub text: String,
    /// The condition.
    pub expr: Expr,
    /// How long the condition must hold, milliseconds.
    pub for_ms: i64,
    /// Labels, including `severity`.
    pub labels: BTreeMap<String, String>,
}

/// The alerts of a rule file.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Path of the file.
    pub path: PathBuf,
    /// In the order of the file.
    pub alerts: Vec<Alert>,
}

/// Why a rule file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFileError {
    /// The file.
    pub path: PathBuf,
    /// Line number from 1; 0 for the whole file.
    pub line: usize,
    /// The alert with the error, if any.
    pub alert: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for RuleFileError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        if let Some(alert) = &self.alert {
            write!(formatter, ": alert {alert}")?;
        }
        write!(formatter, ": {}", self.reason)
    }
}

impl std::error::Error for RuleFileError {}

/// Line (0 for the whole file), alert, and what is wrong.
type Fault = (usize, Option<String>, String);

impl Rules {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RuleFileError`] if the file cannot be read, or contains something that Prometheus rejects or that is
    /// not supported here.
    pub fn read(path: &Path) -> Result<Self, RuleFileError> {
        let whole = |reason: String| (0, None, reason);
        let text = std::fs::metadata(path)
            .and_then(|file| {
                if file.len() > FILE_BYTES_MAX {
                    return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
                }
                std::fs::read_to_string(path)
            })
            .map_err(|error| {
                whole(format!("the rule file cannot be read: {error}; give one such as deploy/alerts.yml"))
            });
        let alerts = text.and_then(|text| alerts(&text));
        match alerts {
            Ok(alerts) => Ok(Self { path: path.to_owned(), alerts }),
            Err((line, alert, reason)) => Err(RuleFileError { path: path.to_owned(), line, alert, reason }),
        }
    }
}

fn alerts(text: &str) -> Result<Vec<Alert>, Fault> {
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| (error.marker().line(), None, format!("not YAML: {}", error.info())))?;
    let [document] = &documents[..] else {
        return Err((0, None, "a rule file must be one YAML document with the key groups".to_owned()));
    };
    let mut alerts = Vec::new();
    let top = fields(document, "the file", &["groups"])?;
    let Some(groups) = top.get("groups") else {
        return Err((0, None, "it has no key groups".to_owned()));
    };
    for group in sequence(groups, "groups")? {
        let fields =
            fields(group, "a group", &["name", "interval", "limit", "query_offset", "labels", "rules"])?;
        if !fields.contains_key("name") {
            return Err((line(group), None, "a group has no name".to_owned()));
        }
        for rule in fields.get("rules").map_or(Ok(&[][..]), |rules| sequence(rules, "rules"))? {
            alerts.push(alert(rule)?);
        }
    }
    match alerts.len() {
        0 => Err((0, None, "it has no alerts; add one, or omit --alerts".to_owned())),
        count if count > ALERTS_MAX => {
            Err((0, None, format!("{count} alerts, must be at most {ALERTS_MAX}")))
        }
        _ => Ok(alerts),
    }
}

fn alert(rule: &MarkedYaml<'_>) -> Result<Alert, Fault> {
    const KEYS: [&str; 7] = ["alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"];
    let fields = fields(rule, "a rule", &KEYS)?;
    if let Some(record) = fields.get("record") {
        let reason = format!(
            "recording rules are not supported here ({}); write their expression into the alert",
            scalar(record, "record")?
        );
        return Err((line(record), None, reason));
    }
    let Some(name) = fields.get("alert") else {
        return Err((line(rule), None, "a rule has neither alert nor record".to_owned()));
    };
    let name = scalar(name, "alert")?;
    let named = |(line, _, reason): Fault| (line, Some(name.clone()), reason);
    if name.trim().is_empty() {
        return Err((line(rule), None, "an alert has an empty name".to_owned()));
    }
    let Some(expr_node) = fields.get("expr") else {
        return Err(named((line(rule), None, "it has no expr".to_owned())));
    };
    let text = scalar(expr_node, "expr").map_err(named)?;
    let expr = promql::parse(&text)
        .map_err(|reason| named((line(expr_node), None, format!("expr: {reason}: {}", one_line(&text)))))?;
    for key in ["for", "keep_firing_for"] {
        if let Some(node) = fields.get(key) {
            duration(node, key).map_err(named)?;
        }
    }
    let for_ms = fields.get("for").map_or(Ok(0), |node| duration(node, "for")).map_err(named)?;
    let labels =
        fields.get("labels").map_or(Ok(BTreeMap::new()), |node| texts(node, "labels")).map_err(named)?;
    if let Some(node) = fields.get("annotations") {
        texts(node, "annotations").map_err(named)?;
    }
    Ok(Alert { name, text: one_line(&text), expr, for_ms, labels })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line(node: &MarkedYaml<'_>) -> usize {
    node.span.start.line()
}

/// The fields of a mapping; an unknown field is an error, as in Prometheus.
fn fields<'a, 'i>(
    node: &'a MarkedYaml<'i>,
    what: &str,
    known: &[&str],
) -> Result<BTreeMap<String, &'a MarkedYaml<'i>>, Fault> {
    let YamlData::Mapping(mapping) = &node.data else {
        return Err((line(node), None, format!("{what} is not a mapping")));
    };
    let mut fields = BTreeMap::new();
    for (key, value) in mapping {
        let name = scalar(key, "a key")?;
        if !known.is_empty() && !known.contains(&&*name) {
            let reason = format!("{what} has no field {name:?}; it may have {}", known.join(", "));
            return Err((line(key), None, reason));
        }
        fields.insert(name, value);
    }
    Ok(fields)
}

fn sequence<'a, 'i>(node: &'a MarkedYaml<'i>, what: &str) -> Result<&'a [MarkedYaml<'i>], Fault> {
    match &node.data {
        YamlData::Sequence(nodes) => Ok(nodes),
        YamlData::Value(Scalar::Null) => Ok(&[]),
        _ => Err((line(node), None, format!("{what} is not a list"))),
    }
}

fn texts(node: &MarkedYaml<'_>, what: &str) -> Result<BTreeMap<String, String>, Fault> {
    if matches!(node.data, YamlData::Value(Scalar::Null)) {
        return Ok(BTreeMap::new());
    }
    let fields = fields(node, what, &[])?;
    fields.into_iter().map(|(name, node)| Ok((name, scalar(node, what)?))).collect()
}

fn scalar(node: &MarkedYaml<'_>, what: &str) -> Result<String, Fault> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Ok(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Ok(number.to_string()),
        YamlData::Value(Scalar::FloatingPoint(number)) => Ok(number.to_string()),
        YamlData::Value(Scalar::Boolean(truth)) => Ok(truth.to_string()),
        _ => Err((line(node), None, format!("{what} is not a text"))),
    }
}

fn duration(node: &MarkedYaml<'_>, what: &str) -> Result<i64, Fault> {
    let text = scalar(node, what)?;
    if text == "0" {
        return Ok(0);
    }
    duration_ms(&text).ok_or_else(|| {
        (line(node), None, format!("{what} is {text:?}, must be a duration such as 30s or 5m"))
    })
}
