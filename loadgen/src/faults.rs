//! Faults injected into the system during the run, at times relative to the first arrival.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Fault, Plan};

/// Poll interval for the end of the run while waiting for the next fault.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Characters kept of a script's standard error.
const STDERR_CHARS_MAX: usize = 200;

/// A fault that was injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InjectedFault {
    /// Time since the first arrival.
    pub(crate) at_ms: u64,
    pub(crate) name: String,
    /// Why the script failed; `None` if it exited with 0.
    pub(crate) error: Option<String>,
}

/// The thread that injects the faults.
#[derive(Debug)]
pub(crate) struct Faults {
    thread: Option<thread::JoinHandle<Vec<InjectedFault>>>,
    is_over: Arc<AtomicBool>,
}

impl Faults {
    /// Starts the thread; `start` is the time of the first arrival.
    pub(crate) fn begin(plan: &Plan, start: Instant) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut faults = plan.faults.clone();
        faults.sort_by_key(|fault| fault.at);
        let thread = if faults.is_empty() {
            None
        } else {
            let (is_over, target, run) = (Arc::clone(&is_over), plan.target.to_string(), plan.run_id.clone());
            let work = move || inject_all(&faults, start, &target, &run, &is_over);
            Some(thread::Builder::new().name("loadgen-faults".to_owned()).spawn(work)?)
        };
        Ok(Self { thread, is_over })
    }

    /// Stops the thread and returns the injected faults. Faults that are not yet due are skipped.
    pub(crate) fn end(self) -> Vec<InjectedFault> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

fn inject_all(
    faults: &[Fault],
    start: Instant,
    target: &str,
    run: &str,
    is_over: &AtomicBool,
) -> Vec<InjectedFault> {
    let mut injected = Vec::new();
    for fault in faults {
        let due = start + fault.at;
        while Instant::now() < due {
            if is_over.load(Ordering::Relaxed) {
                return injected;
            }
            thread::sleep(POLL_INTERVAL.min(due.saturating_duration_since(Instant::now())));
        }
        let at_ms = start.elapsed().as_millis() as u64;
        let ended = Command::new("sh")
            .args(["-c", &fault.run])
            .env("LOADGEN_TARGET", target)
            .env("LOADGEN_RUN", run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        let error = match ended {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let stderr: String = stderr.trim().chars().take(STDERR_CHARS_MAX).collect();
                Some(format!("{}: {stderr}", output.status))
            }
            Err(error) => Some(error.to_string()),
        };
        injected.push(InjectedFault { at_ms, name: fault.name.clone(), error });
    }
    injected
}
