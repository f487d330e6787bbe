//! Things done to the system during the run, on the run's own clock.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Fault, Plan};

/// How often the end of the run is looked for while a fault is not yet due.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is kept of what a script said on standard error.
const SAID_CHARS_MAX: usize = 200;

/// A fault that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Since the first arrival.
    pub(crate) at_ms: u64,
    pub(crate) name: String,
    /// Why it was not what it should be; `None` when the script ended with 0.
    pub(crate) trouble: Option<String>,
}

/// The thread that makes them.
#[derive(Debug)]
pub(crate) struct Faults {
    thread: Option<thread::JoinHandle<Vec<Made>>>,
    is_over: Arc<AtomicBool>,
}

impl Faults {
    /// Begins; `start` is the first arrival.
    pub(crate) fn begin(plan: &Plan, start: Instant) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut faults = plan.faults.clone();
        faults.sort_by_key(|fault| fault.at);
        let thread = if faults.is_empty() {
            None
        } else {
            let (is_over, target, run) = (Arc::clone(&is_over), plan.target.to_string(), plan.run_id.clone());
            let life = move || make_all(&faults, start, &target, &run, &is_over);
            Some(thread::Builder::new().name("loadgen-faults".to_owned()).spawn(life)?)
        };
        Ok(Self { thread, is_over })
    }

    /// What was made. Faults that were not yet due are not made any more.
    pub(crate) fn end(self) -> Vec<Made> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

fn make_all(faults: &[Fault], start: Instant, target: &str, run: &str, is_over: &AtomicBool) -> Vec<Made> {
    let mut made = Vec::new();
    for fault in faults {
        let due = start + fault.at;
        while Instant::now() < due {
            if is_over.load(Ordering::Relaxed) {
                return made;
            }
            thread::sleep(LOOK_EVERY.min(due.saturating_duration_since(Instant::now())));
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
        let trouble = match ended {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said: String = said.trim().chars().take(SAID_CHARS_MAX).collect();
                Some(format!("{}: {said}", output.status))
            }
            Err(error) => Some(error.to_string()),
        };
        made.push(Made { at_ms, name: fault.name.clone(), trouble });
    }
    made
}
