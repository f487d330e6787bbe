//! Extracts the commands of a document: those in its fenced code blocks and in the first cells of its tables.
//!
//! Blocks without a language and blocks of a shell language contain commands; all others (`json`, `text`, ...) do not. The
//! parser supports the shell syntax that the documents use: quotes, backslashes, comments, continued lines, `&&`, `;`, pipes,
//! redirections and leading variables. `<name>` is a placeholder for the reader, not a redirection.

use std::path::Path;

/// Documents with commands; missing ones are skipped.
const PAGES: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "OPERATIONS.md",
    "deploy/k8s/README.md",
    "docs/dead-letters.md",
    "docs/loadgen-report.md",
    "docs/scenarios.md",
    "perf/README.md",
];

/// Languages of blocks that contain commands.
const SHELLS: [&str; 5] = ["", "sh", "bash", "shell", "console"];

/// One command. A pipeline consists of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documented {
    /// Line of the document on which it begins, from 1.
    pub line: usize,
    /// Variables set before the command.
    pub variables: Vec<(String, String)>,
    /// Program and arguments, unquoted. `$(...)` and `$NAME` are kept as written.
    pub words: Vec<String>,
    /// Whether it reads the output of the previous command.
    pub is_piped: bool,
}

impl Documented {
    /// The words, joined by blanks.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// The pages of the tree at `root`, and their commands.
///
/// # Panics
/// As [`commands`].
pub fn pages(root: &Path) -> Vec<(String, Vec<Documented>)> {
    let read = |page: &&str| Some(((*page).to_owned(), std::fs::read_to_string(root.join(page)).ok()?));
    PAGES.iter().filter_map(read).map(|(page, text)| (page, commands(&text))).collect()
}

/// Every command of a document in Markdown, in order.
///
/// # Panics
/// When a quote or a fence is never closed: such a document would also mislead its readers.
pub fn commands(markdown: &str) -> Vec<Documented> {
    let mut found = Vec::new();
    // The open fence, and whether its block contains commands.
    let mut fence: Option<(&str, bool)> = None;
    let mut lines = (1..).zip(markdown.lines());
    while let Some((number, line)) = lines.next() {
        let bare = line.trim_start();
        let ticks = &bare[..bare.len() - bare.trim_start_matches('`').len()];
        match fence {
            None if ticks.len() >= 3 => {
                let language = bare[ticks.len()..].split_whitespace().next().unwrap_or_default();
                fence = Some((ticks, SHELLS.contains(&language)));
            }
            None => found.extend(cell(line).into_iter().flat_map(|cell| split(cell, number))),
            Some((open, _)) if bare.trim_end() == open => fence = None,
            Some((_, false)) => {}
            Some((_, true)) => {
                let mut whole = bare.strip_prefix("$ ").unwrap_or(bare).to_owned();
                while whole.ends_with('\\') {
                    whole.pop();
                    whole.push_str(lines.next().map_or("", |(_, next)| next));
                }
                found.extend(split(&whole, number));
            }
        }
    }
    assert!(fence.is_none(), "a fence is never closed");
    found
}

/// The code in the first cell of a table row, if it is a command.
fn cell(line: &str) -> Option<&str> {
    let code = line.trim_start().strip_prefix("| `")?.split('`').next()?;
    ["cargo ", "flash-sale ", "docker ", "kubectl "]
        .iter()
        .any(|start| code.starts_with(start))
        .then_some(code)
}

/// The commands of one line.
fn split(line: &str, number: usize) -> Vec<Documented> {
    let mut found = vec![Documented { line: number, ..Documented::default() }];
    let mut rest = line.chars().peekable();
    let mut is_target = false;
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&next) = rest.peek() else { break };
        if next == '#' {
            break;
        }
        if matches!(next, '|' | '&' | ';') {
            let sign: String =
                std::iter::from_fn(|| rest.next_if(|c| matches!(c, '|' | '&' | ';'))).collect();
            found.push(Documented { line: number, is_piped: sign == "|", ..Documented::default() });
            continue;
        }
        let word = word(&mut rest, line);
        let command = found.last_mut().expect("the list starts with one command");
        if std::mem::take(&mut is_target) {
            continue;
        }
        let is_redirection = word.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(['>', '<'])
            && !(word.starts_with('<') && word.ends_with('>'));
        if is_redirection {
            // `> file` has its target in the next word, `>file` and `2>&1` in this one.
            is_target = word.ends_with(['>', '<']);
        } else if let (true, Some((name, value))) = (command.words.is_empty(), variable(&word)) {
            command.variables.push((name.to_owned(), value.to_owned()));
        } else {
            command.words.push(word);
        }
    }
    found.retain(|command| !command.words.is_empty());
    found
}

/// `NAME` and `VALUE` of `NAME=VALUE`.
fn variable(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    is_name.then_some((name, value))
}

/// One word without its quotes.
fn word(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, line: &str) -> String {
    let mut word = String::new();
    while let Some(&next) = rest.peek() {
        match next {
            c if c.is_whitespace() => break,
            // `2>&1` is one word.
            '&' if word.ends_with('>') => {}
            '|' | '&' | ';' => break,
            _ => {}
        }
        rest.next();
        match next {
            '\\' => word.extend(rest.next()),
            '\'' | '"' => {
                let mut is_closed = false;
                while let Some(inner) = rest.next() {
                    if inner == next {
                        is_closed = true;
                        break;
                    }
                    let is_escape = next == '"' && inner == '\\';
                    word.extend(if is_escape { rest.next() } else { Some(inner) });
                }
                assert!(is_closed, "a quote is never closed: {line}");
            }
            '(' if word.ends_with('$') => {
                word.push(next);
                let mut depth = 1;
                while depth > 0 {
                    let inner = rest.next().unwrap_or_else(|| panic!("$( is never closed: {line}"));
                    depth += i32::from(inner == '(') - i32::from(inner == ')');
                    word.push(inner);
                }
            }
            _ => word.push(next),
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::commands;

    fn texts(markdown: &str) -> Vec<String> {
        commands(markdown).iter().map(super::Documented::text).collect()
    }

    #[test]
    fn blocks_of_a_shell_and_cells_hold_commands() {
        let page = "# Head\n`ls` is said\n```\na  b # why\n\n# only a comment\n```\n```json\n{\"no\": 1}\n```\n```sh\n$ c\n```\n\
                    | `cargo xtask ci` | all |\n| `REDIS_ADDR` | a name |\n";
        assert_eq!(texts(page), ["a b", "c", "cargo xtask ci"]);
        assert_eq!(commands(page)[0].line, 4);
    }

    #[test]
    fn lines_are_joined_and_split_as_a_shell_does() {
        let page = "```\na 'b c' \\\n  \"d \\\"e\\\"\" f\\ g\nX=1 Y_Z='2 3' h && i; j 2>&1 | k > out.txt\n\
                    . .env\nt <name> $(date +%d)\n```";
        let found = commands(page);
        assert_eq!(found[0].words, ["a", "b c", "d \"e\"", "f g"]);
        assert_eq!(
            found[1].variables,
            [("X".to_owned(), "1".to_owned()), ("Y_Z".to_owned(), "2 3".to_owned())]
        );
        assert_eq!(texts(page)[1..], ["h", "i", "j", "k", ". .env", "t <name> $(date +%d)"]);
        let piped: Vec<bool> = found.iter().map(|command| command.is_piped).collect();
        assert_eq!(piped, [false, false, false, false, true, false, false]);
    }

    #[test]
    #[should_panic(expected = "never closed")]
    fn an_open_quote_is_an_error() {
        commands("```\necho 'a\n```");
    }
}
