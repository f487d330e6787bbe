//! Checks that Redis and Kafka are configured as a sale requires. Verdicts are logged once and exported as a metric.
//!
//! A check never stops a service: a bad configuration loses orders later, not now, and a managed service may not expose its
//! configuration. Bound: the names are fixed at startup, and one thread runs the checks.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cells::Page;
use crate::drain::{Drain, Phase};
use crate::log::{Level, Sink};

/// Interval of the checks, which cost a few commands: a changed configuration is noticed within this time.
const INTERVAL: Duration = Duration::from_mins(1);
/// Interval while Redis or Kafka does not respond, for example at startup.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How often the thread checks whether the process is stopping.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Configured as a sale requires.
    Fine,
    /// Wrong configuration: what it means, and the remedy.
    Warning(String),
    /// The server does not report it: the reason.
    Unknown(String),
}

/// Name and verdict.
pub type Finding = (&'static str, Verdict);

/// Checks that are run together with queries to one server.
pub struct Group {
    /// The names of the checks.
    pub names: &'static [&'static str],
    /// Runs the checks; an error means that the server is not reachable now. May block on the network. `None` for an
    /// embedded server, which has no configuration: its checks stay unknown.
    pub check: Option<CheckFn>,
}

/// The type of [`Group::check`].
pub type CheckFn = Box<dyn Fn() -> Result<Vec<Finding>, String> + Send>;

/// The checks of a process.
#[derive(Debug)]
pub struct Checks {
    sink: Arc<Sink>,
    /// By name; `None` before the first result.
    verdicts: Mutex<Vec<(&'static str, Option<Verdict>)>>,
}

impl Checks {
    /// The checks of these groups, not run yet.
    pub fn new(sink: Arc<Sink>, groups: &[Group]) -> Arc<Self> {
        let names = groups.iter().flat_map(|group| group.names);
        Arc::new(Self { sink, verdicts: Mutex::new(names.map(|&name| (name, None)).collect()) })
    }

    /// Starts a thread that runs the checks now and every minute, sooner when a server was not reachable. It ends in the
    /// last drain phase.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn start(self: &Arc<Self>, drain: Arc<Drain>, groups: Vec<Group>) -> std::io::Result<()> {
        let checks = Arc::clone(self);
        let check_fns: Vec<CheckFn> = groups.into_iter().filter_map(|group| group.check).collect();
        let ask = move || {
            while drain.phase() < Phase::Stopping && !check_fns.is_empty() {
                let mut is_complete = true;
                for check in &check_fns {
                    // The users of a server report that it does not respond, not this thread.
                    let findings = check().unwrap_or_default();
                    is_complete &= !findings.is_empty();
                    for (name, verdict) in findings {
                        checks.record(name, &verdict);
                    }
                }
                let next = Instant::now() + if is_complete { INTERVAL } else { RETRY_INTERVAL };
                while Instant::now() < next && drain.phase() < Phase::Stopping {
                    thread::sleep(EXIT_POLL_INTERVAL);
                }
            }
        };
        thread::Builder::new().name("startup-checks".to_owned()).spawn(ask).map(drop)
    }

    /// Records a verdict and logs it when it has changed.
    pub fn record(&self, name: &'static str, verdict: &Verdict) {
        let mut verdicts = self.verdicts.lock();
        let Some((_, last)) = verdicts.iter_mut().find(|(known, _)| *known == name) else { return };
        let before = last.replace(verdict.clone());
        drop(verdicts);
        if before.as_ref() == Some(verdict) {
            return;
        }
        let (level, message) = match (&verdict, before) {
            (Verdict::Warning(text), _) => (Level::Warn, text.as_str()),
            (Verdict::Unknown(text), _) => (Level::Info, text.as_str()),
            (Verdict::Fine, Some(_)) => (Level::Info, "Configuration is correct now"),
            (Verdict::Fine, None) => return,
        };
        self.sink.line(level, "startup_check", message, |line| {
            line.text("check", name);
        });
    }

    /// Adds the gauge of all checks to a page.
    pub fn add_gauge(&self, page: &mut Page, name: &str) {
        let verdicts = self.verdicts.lock();
        let labels: Vec<([(&str, &str); 1], f64)> = verdicts
            .iter()
            .map(|(check, verdict)| {
                let value = match verdict {
                    Some(Verdict::Fine) => 1.0,
                    Some(Verdict::Warning(_)) => 0.0,
                    Some(Verdict::Unknown(_)) | None => -1.0,
                };
                ([("check", *check)], value)
            })
            .collect();
        let lines: Vec<(&[(&str, &str)], f64)> =
            labels.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        let help = "Configuration of Redis and Kafka: 1 correct, 0 warning, -1 unknown.";
        page.labelled_gauge(name, help, &lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_verdict_is_logged_once_until_it_changes() {
        let out = Out::default();
        let (sink, _) = Sink::start("gateway", Level::Info, out.clone()).expect("thread");
        let group = Group { names: &["eviction", "version"], check: None };
        let checks = Checks::new(Arc::clone(&sink), &[group]);
        let warning = || Verdict::Warning("set noeviction".to_owned());
        for verdict in [Verdict::Fine, warning(), warning(), Verdict::Fine, Verdict::Fine] {
            checks.record("eviction", &verdict);
        }
        sink.flush();
        let text = String::from_utf8(out.0.lock().clone()).expect("utf-8");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(text.matches("\"level\":\"WARN\",\"message\":\"set noeviction\"").count(), 1, "{text}");
        let mut page = Page::default();
        checks.add_gauge(&mut page, "startup_check");
        let page = page.encode().expect("well-formed");
        assert!(page.contains("startup_check{check=\"eviction\"} 1\n"), "{page}");
        assert!(page.contains("startup_check{check=\"version\"} -1\n"), "{page}");
    }
}
