//! The transcript of a drill as a Markdown page: headings, prose, and commands with their time and output.
//!
//! Values that differ between runs and machines are replaced by stable names: random ports by those of the documentation;
//! folders are removed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::step::{self, Result};
use crate::workspace;

/// An output with more than twice this many lines is shortened to this many at the start and at the end.
const LINES_KEPT: usize = 20;

/// The page so far.
#[derive(Debug)]
pub(crate) struct Transcript {
    text: String,
    /// Real values and their replacements.
    names: Vec<(String, String)>,
    begun: Instant,
    steps: usize,
    is_in_block: bool,
}

impl Transcript {
    /// Starts a page with this title and summary.
    pub(crate) fn new(title: &str, about: &str) -> Self {
        let names = vec![(workspace::root().display().to_string(), ".".to_owned())];
        let text = format!("# {title}\n\n{about}\n");
        Self { text, names, begun: Instant::now(), steps: 0, is_in_block: false }
    }

    /// From now on `real` is shown as `shown`, for example a random port as the default port.
    pub(crate) fn show_as(&mut self, real: &str, shown: &str) {
        self.names.push((real.to_owned(), shown.to_owned()));
        // Longest first, because a value may contain another one.
        self.names.sort_by_key(|(real, _)| std::cmp::Reverse(real.len()));
    }

    /// Starts the next step.
    pub(crate) fn step(&mut self, heading: &str) {
        self.steps += 1;
        step::say(format_args!("{}. {heading}", self.steps));
        self.leave_block();
        self.line(&format!("\n## {}. {heading}", self.steps));
    }

    /// Adds a paragraph.
    pub(crate) fn prose(&mut self, text: &str) {
        self.leave_block();
        self.line(&format!("\n{text}"));
    }

    /// Adds a command and its output.
    pub(crate) fn command(&mut self, words: &str, output: &str) {
        let at = self.begun.elapsed();
        self.command_at(at, words, output);
    }

    /// Adds an observation.
    pub(crate) fn note(&mut self, what: &str) {
        let at = self.begun.elapsed();
        self.enter_block();
        self.line(&format!("[{:5.1} s] # {what}", at.as_secs_f64()));
    }

    fn command_at(&mut self, at: Duration, words: &str, output: &str) {
        self.enter_block();
        self.line(&format!("[{:5.1} s] $ {words}", at.as_secs_f64()));
        let lines: Vec<&str> = output.trim_matches('\n').lines().collect();
        let left_out = lines.len().saturating_sub(2 * LINES_KEPT);
        for (number, line) in lines.iter().enumerate() {
            if left_out == 0 || number < LINES_KEPT || number >= LINES_KEPT + left_out {
                self.line(line);
            } else if number == LINES_KEPT {
                self.line(&format!("... {left_out} lines omitted ..."));
            }
        }
    }

    /// Writes the page; creates its folder if missing.
    pub(crate) fn write(&mut self, file: &Path) -> Result<()> {
        self.leave_block();
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        fs::write(file, &self.text).map_err(|e| format!("{}: {e}", file.display()))?;
        let shown = file.strip_prefix(workspace::root()).unwrap_or(file);
        step::say(format_args!("written to {}", shown.display()));
        Ok(())
    }

    fn line(&mut self, line: &str) {
        let mut line = line.trim_end().to_owned();
        for (real, shown) in &self.names {
            line = line.replace(real, shown);
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn enter_block(&mut self) {
        if !self.is_in_block {
            self.text.push_str("\n```\n");
            self.is_in_block = true;
        }
    }

    fn leave_block(&mut self) {
        if self.is_in_block {
            self.text.push_str("```\n");
            self.is_in_block = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Transcript;
    use std::time::Duration;

    #[test]
    fn page_has_stable_names_and_closed_blocks() {
        let mut page = Transcript::new("Title", "About.");
        page.show_as("127.0.0.1:1234", "127.0.0.1:6379");
        page.show_as("127.0.0.1:12345", "127.0.0.1:8080");
        page.step("Look");
        page.prose("At what is there.");
        let output = "healthy at 127.0.0.1:1234 \n\n";
        page.command_at(Duration::from_millis(1_230), "curl http://127.0.0.1:12345/health", output);
        page.command_at(Duration::from_secs(100), "true", "");
        page.step("Go");
        assert_eq!(
            page.text,
            "# Title\n\nAbout.\n\n## 1. Look\n\nAt what is there.\n\n```\n\
             [  1.2 s] $ curl http://127.0.0.1:8080/health\nhealthy at 127.0.0.1:6379\n\
             [100.0 s] $ true\n```\n\n## 2. Go\n"
        );
    }

    #[test]
    fn long_output_is_shortened_in_the_middle() {
        let mut page = Transcript::new("T", "A.");
        let output: Vec<String> = (0..50).map(|number| format!("line {number}")).collect();
        page.command_at(Duration::ZERO, "seq", &output.join("\n"));
        assert!(page.text.contains("line 19\n... 10 lines omitted ...\nline 30\n"), "{}", page.text);
    }
}
