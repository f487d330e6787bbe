//! Result files: one folder per run, with everything needed to repeat the run and to check its results.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::perf::Options;
use crate::step::{self, Result};
use crate::workspace;

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct Record {
    dir: PathBuf,
    head: String,
}

impl Record {
    /// Creates the folder of a run and collects facts about the environment.
    pub(crate) fn open(options: &Options, what: &str) -> Result<Self> {
        let dir = options.out.clone();
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut head = format!("# {what}\n\n");
        let state = if output_of("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
            ""
        } else {
            " with uncommitted changes"
        };
        let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        // wrk prints its version only with a non-zero exit code.
        let wrk = output_of("sh", &["-c", "wrk --version | head -n 1; true"]);
        for (name, value) in [
            ("date", output_of("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])),
            ("commit", format!("{}{state}", commit())),
            ("machine", format!("{}, {}", machine(), model.trim_start_matches([' ', '\t', ':']))),
            ("kernel", output_of("uname", &["-sr"])),
            ("rustc", output_of("rustc", &["--version"])),
            ("redis", output_of("redis-server", &["--version"])),
            ("kafka", format!("Apache Kafka {}", crate::services::kafka_version())),
            ("librdkafka", librdkafka()),
            ("wrk", wrk.split(" Copyright").next().unwrap_or_default().to_owned()),
            ("command", format!("cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" "))),
        ] {
            // wrk may not be installed; then its line is omitted.
            if !value.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(head, "- {name}: {value}");
            }
        }
        Ok(Self { dir, head })
    }

    /// Writes the header and `text` to `<name>.md`, and prints `text`.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(format!("{name}.md"));
        fs::write(&path, format!("{}\n{text}", self.head)).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{text}");
        step::say(format_args!(
            "written to {}",
            path.strip_prefix(workspace::root()).unwrap_or(&path).display()
        ));
        Ok(())
    }

    /// The folder, for additional files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The default folder: date, machine and commit.
pub(super) fn folder() -> PathBuf {
    let date = output_of("date", &["-u", "+%Y-%m-%d"]);
    workspace::root().join("perf/runs").join(format!("{date}-{}-{}", machine(), commit()))
}

/// The commit that is checked out.
pub(crate) fn commit() -> String {
    output_of("git", &["rev-parse", "--short=9", "HEAD"])
}

/// The version of the bundled librdkafka: the part after the plus sign in the version of its crate.
fn librdkafka() -> String {
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock")).unwrap_or_default();
    let version =
        lock.split_once("name = \"rdkafka-sys\"\nversion = \"").and_then(|(_, rest)| rest.split_once('"'));
    let version = version.map_or("unknown", |(version, _)| version);
    version.split_once('+').map_or(version, |(_, bundled)| bundled).to_owned()
}

/// Output of a program without trailing newline; empty if it fails.
pub(crate) fn output_of(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace::root());
    step::capture(command, Duration::from_secs(10)).unwrap_or_default().trim().to_owned()
}

/// Cores and memory, such as `2cpu-24g`: results from the same kind of machine can be compared.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    format!("{cores}cpu-{}g", kib.unwrap_or(0).div_ceil(1024 * 1024))
}
