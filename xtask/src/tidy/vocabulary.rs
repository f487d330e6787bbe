//! Private metaphors that were replaced by terms of the field (ARCHITECTURE.md, "Glossary"). They must not return.

/// The retired word, and the term to use.
const RETIRED: &[(&str, &str)] = &[
    ("road", "request path, or in flight"),
    ("roads", "request path"),
    ("station", "stage"),
    ("stations", "stages"),
    ("seat", "permit or slot"),
    ("patience", "timeout"),
    ("inquiry", "query"),
    ("offence", "violation"),
    ("offences", "violations"),
    ("offender", "violation"),
    ("offenders", "violations"),
    ("contestant", "candidate"),
    ("contestants", "candidates"),
    ("shoot", "run the load"),
    ("shots", "runs"),
    ("beginnings", "start offsets"),
];
/// Files that may contain them: records of runs and transcripts as they were written, the changelog, and this file. Fields of
/// the report's JSON keep their names; there they stand in quotes.
const EXEMPT: &[&str] = &["perf/runs/", "docs/drills/", "CHANGELOG.md", "xtask/src/tidy/vocabulary.rs"];

/// One complaint for each retired word of a text.
pub(super) fn check(name: &str, text: &str) -> Vec<String> {
    if EXEMPT.iter().any(|exempt| name.starts_with(exempt)) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in super::numbered(text) {
        // A name in quotes or backticks may be one of a contract, such as a JSON field.
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '"' && c != '`');
        for word in words.map(str::to_lowercase) {
            if let Some((_, instead)) = RETIRED.iter().find(|(retired, _)| *retired == word) {
                complaints.push(format!("{name}:{number}: \"{word}\" is retired; say {instead}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn retired_words_are_reported_with_their_term() {
        let text = "An order on the road.\nlet seat_count = seat();\nBroadcast, `offences`.";
        assert_eq!(
            check("a.rs", text),
            [
                "a.rs:1: \"road\" is retired; say request path, or in flight",
                "a.rs:2: \"seat\" is retired; say permit or slot",
                "a.rs:2: \"seat\" is retired; say permit or slot",
            ]
        );
        assert_eq!(check("perf/runs/a/system.md", text), Vec::<String>::new());
    }
}
