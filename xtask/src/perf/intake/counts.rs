//! Counts system calls and allocations of a server with `perf stat` during separate runs: counting slows the server down,
//! so no other figure is taken from these runs.
//!
//! System calls are `raw_syscalls:sys_enter`, over all threads. Allocations are calls of allocator functions, counted by
//! uprobes: mimalloc's (used by the Rust code of gateway and rivals) and libc's (used by librdkafka's C code, and by Rust
//! code without a custom allocator). Both need root and a kernel with tracepoints and uprobes; without them the figure is
//! missing and the text states the reason.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::TempDir;
use testkit::child;

use super::comparison::{Candidate, Row, new_run_id};
use crate::perf::cpu;
use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Load};
use crate::services::apt;
use crate::step::{self, Result};

/// Duration of a counting run.
const RUN_S: u64 = 3;
/// Time for `perf stat` to attach before the run, and how long it stays attached after it.
const MARGIN: Duration = Duration::from_secs(1);
/// The functions of mimalloc that its Rust crate calls.
const MIMALLOC: &[&str] = &["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];
/// The allocation functions of libc; `aligned_alloc` and `memalign` have the same address.
const LIBC: &[&str] = &["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// Counts for the candidates with `is_counted`, at 256 connections, and writes the figures into their rows. Returns the
/// footnote of the table.
pub(super) fn count(stage: &Stage, candidates: &[Candidate], rows: &mut [Row]) -> Result<String> {
    let mut text = format!(
        "\n¹ At 256 connections, by perf(1) in separate runs of {RUN_S} s, which it slows down. Allocations by allocator: "
    );
    let perf = match apt::program("perf", "linux-perf") {
        Ok(perf) => perf,
        Err(step::Failure::Failed(reason)) => return Ok(format!("\n¹ Not counted: {reason}\n")),
        Err(interrupted) => return Err(interrupted),
    };
    let (mut split, mut reasons) = (Vec::new(), Vec::new());
    for candidate in candidates.iter().filter(|candidate| candidate.is_counted) {
        let who = candidate.who;
        let Some(row) = rows.iter_mut().find(|row| row.who == who && row.connections == 256) else {
            continue;
        };
        let run_load = |events: &[String]| {
            stage.redis.call(&["FLUSHALL"]);
            step::timed(&format!("{who}: counting"), || run_counted(&perf, &candidate.actor, events))
        };
        match run_load(&["raw_syscalls:sys_enter".to_owned()]) {
            Ok(found) => row.syscalls = found.iter().sum(),
            Err(step::Failure::Failed(reason)) => reasons.push(format!("{who}: no syscalls: {reason}")),
            Err(interrupted) => return Err(interrupted),
        }
        let counted = Probes::set(&perf, candidate.actor.pid()).and_then(|probes| {
            let found = run_load(&probes.events)?;
            let (rust, c) = found.split_at(probes.mimalloc);
            Ok((rust.iter().sum::<f64>(), c.iter().sum::<f64>(), probes.mimalloc > 0))
        });
        match counted {
            Ok((rust, c, has_mimalloc)) => {
                row.allocations = rust + c;
                split.push(if has_mimalloc {
                    format!("{who} {rust:.2} of mimalloc (Rust) and {c:.2} of libc (librdkafka)")
                } else {
                    format!("{who} {c:.2} of libc")
                });
            }
            Err(step::Failure::Failed(reason)) => reasons.push(format!("{who}: no allocations: {reason}")),
            Err(interrupted) => return Err(interrupted),
        }
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}.", if split.is_empty() { "none".to_owned() } else { split.join("; ") });
    for reason in reasons {
        let _ = writeln!(text, "\n{reason}");
    }
    Ok(text)
}

/// Number of each event per acknowledged order.
fn run_counted(perf: &Path, actor: &Actor, events: &[String]) -> Result<Vec<f64>> {
    let dir = TempDir::new("xtask-counts");
    let out = dir.path().join("perf.csv");
    let pids: Vec<String> = cpu::family(actor.pid()).iter().map(u32::to_string).collect();
    let mut command = Command::new(perf);
    command.args(["stat", "-x", ";", "-e", &events.join(","), "-p", &pids.join(","), "-o"]).arg(&out).args([
        "--",
        "sleep",
        &(RUN_S + 2 * MARGIN.as_secs()).to_string(),
    ]);
    let mut counter = child::spawn(command).map_err(|error| format!("perf: {error}"))?;
    std::thread::sleep(MARGIN);
    let run = new_run_id();
    let hits = wrk::run(&Load {
        address: &actor.address,
        run: &run,
        item: "sale",
        connections: 256,
        seconds: RUN_S,
    })?;
    let status = loop {
        match counter.ended() {
            Some(status) => break status,
            None => step::pause()?,
        }
    };
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    if !status.success() {
        return Err(format!("perf stat ended with {}: {}", child::describe(status), text.trim()).into());
    }
    let orders = hits.requests.saturating_sub(hits.refused) as f64;
    events
        .iter()
        .map(|event| {
            let line = text.lines().find(|line| line.split(';').nth(2) == Some(event));
            let count = line.and_then(|line| line.split(';').next()?.parse::<f64>().ok());
            count
                .map(|count| count / orders)
                .ok_or_else(|| format!("perf stat printed no count of {event}").into())
        })
        .collect()
}

/// Uprobes at the allocator functions of one process; removed when dropped.
struct Probes {
    perf: PathBuf,
    group: String,
    events: Vec<String>,
    /// Number of mimalloc's events; they come first.
    mimalloc: usize,
}

impl Probes {
    fn set(perf: &Path, pid: u32) -> Result<Self> {
        let program = std::fs::read_link(format!("/proc/{pid}/exe"))?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let libc = maps.split_ascii_whitespace().find(|word| word.ends_with("/libc.so.6"));
        let libc = libc.ok_or("the process has no libc.so.6")?;
        let group = format!("xtask{}", std::process::id());
        let mut probes = Self { perf: perf.to_owned(), group, events: Vec::new(), mimalloc: 0 };
        for entry in MIMALLOC {
            // Fails for a program without mimalloc.
            if probes.add(&program, entry).is_ok() {
                probes.mimalloc += 1;
            }
        }
        for entry in LIBC {
            probes.add(Path::new(libc), entry)?;
        }
        Ok(probes)
    }

    fn add(&mut self, program: &Path, entry: &str) -> Result<()> {
        let mut command = Command::new(&self.perf);
        command
            .args(["probe", "-q", "-x"])
            .arg(program)
            .args(["--add", &format!("{}:{entry}={entry}", self.group)]);
        step::capture(command, Duration::from_secs(30))?;
        self.events.push(format!("{}:{entry}", self.group));
        Ok(())
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        let mut command = Command::new(&self.perf);
        command.args(["probe", "-q", "--del", &format!("{}:*", self.group)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Not by `step`, which starts nothing after Ctrl-C. A probe that is left behind costs nothing: the kernel activates
        // a probe only while something reads it.
        drop(command.status());
    }
}
