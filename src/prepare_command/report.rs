//! What `prepare` found: a row for each check, as a table or as JSON.

use std::fmt::Write as _;

use serde_json::json;

/// What a check means for the sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// As a sale needs it.
    Ok,
    /// It cannot be known from here.
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

/// One check.
#[derive(Debug, Clone)]
pub(super) struct Row {
    name: String,
    pub(super) state: State,
    /// What was found, and the remedy unless it is ok.
    text: String,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, state: State, text: impl Into<String>) -> Self {
        Self { name: name.into(), state, text: text.into() }
    }

    /// The failure of a check that could not be made.
    pub(super) fn failed(name: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::new(name, State::Refuse, reason.to_string())
    }
}

/// The worst state of all rows.
pub(super) fn verdict(rows: &[Row]) -> State {
    rows.iter().map(|row| row.state).max().unwrap_or(State::Ok)
}

/// For people.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Row { name, state, text: found } in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<width$}  {:<7}  {found}", state.word());
    }
    let summary = match verdict(rows) {
        State::Refuse => "REFUSE: do not open the sale before this is repaired",
        State::Warning => "WARNING: the sale can be opened; see above",
        State::Unknown => "OK as far as it is known",
        State::Ok => "OK",
    };
    let _ = writeln!(text, "\n{summary}");
    text
}

/// For programs.
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
    fn the_worst_row_decides() {
        let mut rows = vec![Row::new("a", State::Ok, ""), Row::new("b", State::Unknown, "")];
        assert_eq!(verdict(&rows), State::Unknown);
        rows.push(Row::failed("c", "no answer"));
        rows.push(Row::new("d", State::Warning, ""));
        assert_eq!(verdict(&rows), State::Refuse);
        assert!(table(&rows).ends_with("REFUSE: do not open the sale before this is repaired\n"));
        assert!(json(&rows).starts_with("{\"checks\":[{\"check\":\"a\",\"state\":\"ok\""));
    }
}
