//! `cargo xtask tidy`: checks that compilers do not make and reviewers forget. Each rule is a function from text to
//! complaints.

/// Dependencies between files.
mod cycles;

/// Compares OPERATIONS.md with the code.
mod operations;

/// Words that the project no longer uses.
mod vocabulary;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::step::{self, Result};
use crate::workspace;

/// A longer file probably has two responsibilities.
const LINES_MAX: usize = 500;
/// As in rustfmt.toml; checked here because rustfmt does not break comments and strings.
const COLUMNS_MAX: usize = 132;
/// Markers of unfinished work. This file is exempt, because it must name them.
const MARKERS: &[&str] = &["todo!", "unimplemented!", "#[ignore", "FIXME"];
/// The two commands a new user needs.
const README_COMMANDS: &[&str] = &["cargo run --release -- demo", "cargo xtask test"];
/// Directories without sources of this repository.
const SKIPPED: &[&str] = &["target", ".git", ".services", "node_modules"];
/// Extensions of files that are checked.
const TEXTS: &[&str] = &["rs", "md", "toml", "lua", "sh", "yml", "yaml", "json", "html"];

/// Checks the whole tree and prints every complaint.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut complaints = Vec::new();
    for file in &files {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !TEXTS.contains(&extension) {
            continue;
        }
        let text = read(file)?;
        let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
        complaints.extend(trailing_blanks(&name, &text));
        complaints.extend(vocabulary::check(&name, &text));
        if extension == "rs" {
            complaints.extend(size(&name, &text));
            if name != "xtask/src/tidy.rs" {
                complaints.extend(markers(&name, &text));
            }
        }
    }
    complaints.extend(readme(&fs::read_to_string(root.join("README.md")).unwrap_or_default()));
    complaints.extend(variables(root, &files)?);
    complaints.extend(operations::check(root, &files)?);
    complaints.extend(cycles::check(root, &files)?);
    for complaint in &complaints {
        eprintln!("  {complaint}");
    }
    step::say(format_args!("tidy: {} files, {} complaints", files.len(), complaints.len()));
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(format!("tidy: {} complaints, listed above", complaints.len()).into())
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", dir.display()))?;
        let kind = entry.file_type().map_err(|e| format!("{}: {e}", entry.path().display()))?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()).into())
}

fn trailing_blanks(name: &str, text: &str) -> Vec<String> {
    numbered(text)
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(number, _)| format!("{name}:{number}: trailing whitespace"))
        .collect()
}

fn size(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{name}: {lines} lines, more than {LINES_MAX}: split it by responsibility"));
    }
    for (number, line) in numbered(text) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            complaints.push(format!("{name}:{number}: {columns} columns, more than {COLUMNS_MAX}"));
        }
    }
    complaints
}

fn markers(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in numbered(text) {
        for marker in MARKERS.iter().filter(|marker| line.contains(**marker)) {
            complaints.push(format!("{name}:{number}: `{marker}` marks unfinished work"));
        }
    }
    complaints
}

fn readme(text: &str) -> Vec<String> {
    let missing = README_COMMANDS.iter().filter(|command| !text.contains(**command));
    missing.map(|command| format!("README.md: does not mention `{command}`")).collect()
}

/// The program must read exactly the variables that `docs/configuration.md` documents.
fn variables(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let page = root.join("docs/configuration.md");
    if !page.is_file() {
        return Ok(Vec::new());
    }
    let documented = documented_variables(&read(&page)?);
    let mut known = BTreeSet::new();
    let sources = root.join("settings/src");
    for file in files.iter().filter(|file| file.starts_with(&sources)) {
        known.extend(known_variables(&read(file)?));
    }
    let undocumented = known.difference(&documented);
    let unknown = documented.difference(&known);
    Ok(undocumented
        .map(|name| format!("docs/configuration.md: {name} of settings/ is not documented"))
        .chain(unknown.map(|name| format!("docs/configuration.md: {name} is not a variable of settings/")))
        .collect())
}

/// The names in the rows of the settings table, such as `REDIS_ADDR = Both, Kind::Redis, …`.
fn known_variables(source: &str) -> BTreeSet<String> {
    let roles = [" = Both, Kind::", " = Gateway, Kind::", " = Processor, Kind::"];
    let name = |line: &str| roles.iter().find_map(|role| Some(line.split_once(role)?.0.trim().to_owned()));
    source.lines().filter_map(name).filter(|name| is_variable(name)).collect()
}

/// The names in backticks in the first column of the page's tables.
fn documented_variables(page: &str) -> BTreeSet<String> {
    let cells = page.lines().filter_map(|line| line.trim_start().strip_prefix("| `")?.split('`').next());
    cells.filter(|name| is_variable(name)).map(str::to_owned).collect()
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Lines numbered from 1, without the newline; a carriage return is kept, so that it is reported.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.split('\n'))
}

#[cfg(test)]
mod tests {
    use super::{documented_variables, known_variables, markers, readme, size, trailing_blanks};

    #[test]
    fn trailing_whitespace_is_reported_with_its_line() {
        assert_eq!(
            trailing_blanks("a.rs", "x\ny \nz\r\n"),
            ["a.rs:2: trailing whitespace", "a.rs:3: trailing whitespace"]
        );
    }

    #[test]
    fn line_length_counts_characters_and_file_length_is_limited() {
        assert_eq!(size("a.rs", &"é".repeat(132)), Vec::<String>::new());
        assert_eq!(size("a.rs", &"x".repeat(133)), ["a.rs:1: 133 columns, more than 132"]);
        assert_eq!(size("a.rs", &"x\n".repeat(500)), Vec::<String>::new());
        assert_eq!(size("a.rs", &"x\n".repeat(501)).len(), 1);
    }

    #[test]
    fn unfinished_work_is_reported() {
        assert_eq!(markers("a.rs", "fn f() {\n    todo!()\n}"), ["a.rs:2: `todo!` marks unfinished work"]);
        assert_eq!(markers("a.rs", "#[ignore = \"slow\"]").len(), 1);
        assert_eq!(markers("a.rs", "// to do what is right"), Vec::<String>::new());
    }

    #[test]
    fn readme_must_mention_both_commands() {
        assert_eq!(readme("cargo run --release -- demo\ncargo xtask test\n"), Vec::<String>::new());
        assert_eq!(readme("cargo xtask test").len(), 1);
    }

    #[test]
    fn variables_are_read_from_source_and_page() {
        let source = "    REDIS_ADDR = Both, Kind::Redis, \"x\",\n    lower = Both, Kind::Redis, \"x\";";
        assert_eq!(known_variables(source), ["REDIS_ADDR".to_owned()].into());
        let page =
            "| variable | default |\n|---|---|\n| `REDIS_ADDR` | `embedded` |\nand `WORKERS` in text\n";
        assert_eq!(documented_variables(page), ["REDIS_ADDR".to_owned()].into());
    }
}
