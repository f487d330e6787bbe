//! The results of `prepare`: one row per check, as a table or as JSON.

use std::fmt::Write as _;

use serde_json::json;

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Suitable for a sale.
    Ok,
    /// Cannot be determined from here.
    Unknown,
    /// The sale works, but may lose orders or be slow.
    Warning,
    /// Do not open the sale.
    Refuse,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Refuse => "refuse",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone)]
pub(super) struct Row {
    name: String,
    pub(super) state: State,
    /// The finding, with the remedy unless the state is ok.
    text: String,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, state: State, text: impl Into<String>) -> Self {
        Self { name: name.into(), state, text: text.into() }
    }

    /// A check that could not be run.
    pub(super) fn failed(name: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::new(name, State::Refuse, reason.to_string())
    }
}

/// The worst state of all rows.
pub(super) fn verdict(rows: &[Row]) -> State {
    rows.iter().map(|row| row.state).max().unwrap_or(State::Ok)
}

/// Human-readable table.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Row { name, state, text: found } in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<width$}  {:<7}  {found}", state.word());
    }
    let summary = match verdict(rows) {
        State::Refuse => "REFUSE: do not open the sale before this is fixed",
        State::Warning => "WARNING: the sale can be opened; see above",
        State::Unknown => "OK, but some checks are unknown",
        State::Ok => "OK",
    };
    let _ = writeln!(text, "\n{summary}");
    text
}

/// JSON for programs.
pub(super) fn json(rows: &[Row]) -> String {
    let checks: Vec<_> = rows
        .iter()
        .map(|row| json!({"check": row.name, "state": row.state.word(), "text": row.text}))
        .collect();
    let mut text = json!({"verdict": verdict(rows).word(), "checks": checks}).to_string();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_is_the_worst_row() {
        let mut rows = vec![Row::new("a", State::Ok, ""), Row::new("b", State::Unknown, "")];
        assert_eq!(verdict(&rows), State::Unknown);
        rows.push(Row::failed("c", "no reply"));
        rows.push(Row::new("d", State::Warning, ""));
        assert_eq!(verdict(&rows), State::Refuse);
        assert!(table(&rows).ends_with("REFUSE: do not open the sale before this is fixed\n"));
        assert!(json(&rows).starts_with("{\"checks\":[{\"check\":\"a\",\"state\":\"ok\""));
    }
}
