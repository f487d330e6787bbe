//! `OPERATIONS.md` and the code must name the same metrics, variables, keys, subcommands and alerts. Both directions are
//! checked, so that the page cannot become outdated unnoticed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{is_variable, known_variables, read};
use crate::step::Result;

const PAGE: &str = "OPERATIONS.md";
const METRIC_PREFIXES: [&str; 2] = ["gateway_", "processor_"];

type Names = BTreeSet<String>;

/// Reports names that only one side has.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let page = read(&root.join(PAGE))?;
    let below = |folder: &str| {
        let folder = root.join(folder);
        files
            .iter()
            .filter(move |file| file.starts_with(&folder) && file.extension().is_some_and(|e| e == "rs"))
    };
    let all = |folders: &[&str], names: &dyn Fn(&str) -> Names| -> Result<Names> {
        let mut found = Names::new();
        for file in folders.iter().flat_map(|folder| below(folder)) {
            found.extend(names(&read(file)?));
        }
        Ok(found)
    };
    let spans = code_spans(&page);
    let mut complaints = Vec::new();
    for (what, known, named) in [
        (
            "metric",
            all(&["gateway/src/metrics_page.rs", "processor/src/metrics_page.rs"], &quoted_metrics)?,
            spans.iter().filter(|span| is_metric(span)).cloned().collect(),
        ),
        (
            "variable",
            all(&["settings/src"], &|source| known_variables(source))?,
            spans.iter().filter(|span| is_variable(span)).cloned().collect(),
        ),
        (
            "key",
            all(&["wire/src/names.rs", "dead_letters/src/marks.rs"], &keys)?,
            spans.iter().filter_map(|span| key_of(span)).collect(),
        ),
        ("subcommand", all(&["src"], &quoted_commands)?, commands_of(&page)),
        (
            "alert",
            alerts(&read(&root.join("deploy/alerts.yml"))?),
            spans.iter().filter(|span| is_camel(span)).cloned().collect::<Names>(),
        ),
    ] {
        complaints.extend(differences(what, &known, &named));
    }
    Ok(complaints)
}

fn differences(what: &str, known: &Names, named: &Names) -> Vec<String> {
    let missing = known.difference(named).map(|name| format!("{PAGE}: does not mention the {what} {name}"));
    let unknown = named
        .difference(known)
        .map(|name| format!("{PAGE}: mentions the {what} {name}, which does not exist"));
    missing.chain(unknown).collect()
}

/// Text in backticks outside of fenced code blocks.
fn code_spans(page: &str) -> Names {
    let mut is_fenced = false;
    let mut spans = Names::new();
    for line in page.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

fn is_metric(span: &str) -> bool {
    let is_name = span.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name && (span == "build_info" || METRIC_PREFIXES.iter().any(|prefix| span.starts_with(prefix)))
}

/// String literals that are metric names.
fn quoted_metrics(source: &str) -> Names {
    source.split('"').skip(1).step_by(2).filter(|literal| is_metric(literal)).map(str::to_owned).collect()
}

/// Key prefixes in string literals: `inventory:` of `"inventory:"`, `dlq_handled:` of `"dlq_handled:{}:{partition}"`.
fn keys(source: &str) -> Names {
    let literals = source.split('"').skip(1).step_by(2);
    literals.filter_map(|literal| key_of(&literal.replace('{', "<"))).collect()
}

/// The prefix of a key: `inventory:` of `inventory:<item>`, `stock_ledger:` of `stock_ledger:{inventory:<item>}`.
fn key_of(text: &str) -> Option<String> {
    let (name, rest) = text.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (is_name && (rest.is_empty() || rest.starts_with(['<', '{']))).then(|| format!("{name}:"))
}

/// The names in `Command::new("…")`, except that of the binary itself.
fn quoted_commands(source: &str) -> Names {
    let parts = source.split("Command::new(\"").skip(1);
    parts
        .filter_map(|part| part.split('"').next())
        .filter(|name| *name != "flash-sale")
        .map(str::to_owned)
        .collect()
}

/// The subcommands after `flash-sale`: the first word, and the second word of commands that have subcommands.
fn commands_of(page: &str) -> Names {
    let mut names = Names::new();
    for after in page.split("flash-sale ").skip(1) {
        let mut words = after
            .split([' ', '`', '\n'])
            .take_while(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
        let Some(first) = words.next() else { continue };
        names.insert(first.to_owned());
        if ["dlq", "stock", "loadgen"].contains(&first) {
            names.extend(words.next().map(str::to_owned));
        }
    }
    names
}

/// Whether it looks like the name of an alert, such as `DlqSizeHigh`.
fn is_camel(span: &str) -> bool {
    span.starts_with(|first: char| first.is_ascii_uppercase())
        && span.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && span.bytes().filter(u8::is_ascii_uppercase).count() > 1
        && span.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn alerts(rules: &str) -> Names {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Names {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_on_only_one_side_are_reported() {
        let reported = differences("metric", &set(&["a", "b"]), &set(&["b", "c"]));
        assert_eq!(
            reported,
            [
                "OPERATIONS.md: does not mention the metric a",
                "OPERATIONS.md: mentions the metric c, which does not exist"
            ]
        );
    }

    #[test]
    fn only_code_spans_outside_of_fences_are_read() {
        let page =
            "`gateway_x` and `inventory:<item>`\n```sh\ncurl `date`\n```\n`DlqSizeHigh` `REDIS_ADDR`\n";
        let spans = code_spans(page);
        assert_eq!(spans, set(&["gateway_x", "inventory:<item>", "DlqSizeHigh", "REDIS_ADDR"]));
        assert_eq!(spans.iter().filter(|span| is_metric(span)).count(), 1);
        assert_eq!(spans.iter().filter_map(|span| key_of(span)).collect::<Names>(), set(&["inventory:"]));
        assert_eq!(spans.iter().filter(|span| is_camel(span)).count(), 1);
    }

    #[test]
    fn names_are_read_from_code() {
        assert_eq!(
            quoted_metrics(r#"page.gauge("processor_dlq_size", "Dead letters.")"#),
            set(&["processor_dlq_size"])
        );
        assert_eq!(
            keys(r#"= "inventory:"; format!("dlq_doubt:{}", topic)"#),
            set(&["inventory:", "dlq_doubt:"])
        );
        assert_eq!(quoted_commands(r#"Command::new("flash-sale"), Command::new("dlq")"#), set(&["dlq"]));
        assert_eq!(alerts("  - alert: DlqAgeHigh\n    expr: x\n"), set(&["DlqAgeHigh"]));
    }

    #[test]
    fn subcommands_are_the_words_after_the_program_name() {
        let page = "`flash-sale dlq list --max 3`, `flash-sale health`, flash-sale stock set 101 5\nand flash-sale …\n";
        assert_eq!(commands_of(page), set(&["dlq", "list", "health", "stock", "set"]));
    }
}
