//! Runs several test programs in parallel, the longest first.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::step::{self, Failure, Result};
use crate::test::suite::{Ended, Suite};
use crate::workspace;

/// Parallel programs per core. Each program already runs several tests in parallel; with twice as many programs a dozen
/// brokers and their clients share two cores, and tests that wait for them time out.
const PER_CORE: usize = 1;
/// Seconds the longest programs take on two cores; used for the first run on a machine.
const LONGEST_S: &[(&str, f64)] = &[
    ("flash-sale/real", 80.0),
    ("processor/real", 50.0),
    ("store/real", 45.0),
    ("xtask/faults_leave_no_order_behind", 45.0),
    ("testkit/kafka_lifecycle", 30.0),
    ("loadgen/fast", 30.0),
    ("loadgen/real", 20.0),
    ("processor/fast", 20.0),
    ("gateway/fast", 15.0),
];
/// Assumed seconds of any other program: with and without real services.
const OTHERS_S: (f64, f64) = (8.0, 0.5);
/// While no program ends, the running ones are listed at this interval.
const REPORT_INTERVAL: Duration = Duration::from_secs(15);

/// State shared by the worker threads.
struct Progress {
    waiting: Vec<(f64, Suite)>,
    running: BTreeMap<String, Instant>,
    ended: Vec<Ended>,
    failure: Option<Failure>,
    all: usize,
    last_report: Instant,
}

/// Runs all test programs; those that must run alone come last.
pub(crate) fn run(suites: Vec<Suite>) -> Result<Vec<Ended>> {
    let mut times = read_times();
    let seconds = |suite: &Suite| {
        let known = LONGEST_S.iter().find(|(name, _)| *name == suite.name).map(|(_, seconds)| *seconds);
        let other = if suite.is_real { OTHERS_S.0 } else { OTHERS_S.1 };
        times.get(&suite.name).copied().or(known).unwrap_or(other)
    };
    let mut waiting: Vec<(f64, Suite)> = suites.into_iter().map(|suite| (seconds(&suite), suite)).collect();
    // Ascending, because workers take programs from the end.
    waiting.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (alone, shared): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, suite)| suite.runs_alone);
    let all = alone.len() + shared.len();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut ended = Vec::new();
    for (waiting, at_once) in [(shared, cores * PER_CORE), (alone, 1)] {
        let last_report = Instant::now();
        let progress = Progress { waiting, running: BTreeMap::new(), ended, failure: None, all, last_report };
        let progress = Mutex::new(progress);
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| work(&progress, at_once));
            }
        });
        let progress = progress.into_inner().expect("no holder panics");
        if let Some(failure) = progress.failure {
            return Err(failure);
        }
        ended = progress.ended;
    }
    times.extend(ended.iter().map(|ended| (ended.name.clone(), ended.took.as_secs_f64())));
    write_times(&times);
    Ok(ended)
}

fn work(progress: &Mutex<Progress>, at_once: usize) {
    loop {
        let suite = {
            let mut progress = progress.lock().expect("no holder panics");
            if progress.failure.is_some() {
                return;
            }
            let Some((_, suite)) = progress.waiting.pop() else { return };
            progress.running.insert(suite.name.clone(), Instant::now());
            suite
        };
        let name = suite.name.clone();
        let result = std::thread::scope(|scope| {
            let run = scope.spawn(move || suite.run());
            while !run.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
                progress.lock().expect("no holder panics").report_running();
            }
            run.join().unwrap_or_else(|_| Err("a thread of xtask panicked".into()))
        });
        let mut progress = progress.lock().expect("no holder panics");
        progress.running.remove(&name);
        match result {
            Ok(ended) => progress.note(ended, at_once),
            Err(failure) => progress.failure = Some(failure),
        }
    }
}

impl Progress {
    fn note(&mut self, ended: Ended, at_once: usize) {
        self.ended.push(ended);
        self.last_report = Instant::now();
        let left_s = self.waiting.iter().map(|(seconds, _)| seconds).sum::<f64>().abs() / at_once as f64;
        let ended = self.ended.last().expect("just pushed");
        if ended.reason.is_some() {
            // Printed in one piece, so that the outputs of parallel programs are not mixed.
            println!("---- {}\n{}", ended.name, ended.output);
        }
        let verdict = if ended.reason.is_some() { "FAILED" } else { "ok" };
        step::say(format_args!(
            "{verdict} {:<52} {:>3} passed {:>6.1} s   {} of {}, {} running, about {left_s:.0} s left",
            ended.name,
            ended.count.passed,
            ended.took.as_secs_f64(),
            self.ended.len(),
            self.all,
            self.running.len(),
        ));
    }

    fn report_running(&mut self) {
        if self.last_report.elapsed() > REPORT_INTERVAL {
            self.last_report = Instant::now();
            let name =
                |(name, since): (&String, &Instant)| format!("{name} for {} s", since.elapsed().as_secs());
            let running: Vec<String> = self.running.iter().map(name).collect();
            step::say(format_args!("still running: {}", running.join(", ")));
        }
    }
}

/// File with the duration of each program in the last run on this machine. It affects only the order of programs.
fn times_file() -> PathBuf {
    workspace::services_dir().join("test-times.json")
}

fn read_times() -> BTreeMap<String, f64> {
    let text = fs::read_to_string(times_file()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write_times(times: &BTreeMap<String, f64>) {
    let text = serde_json::to_string(times).expect("names and numbers");
    let file = times_file();
    if let Err(error) = fs::create_dir_all(workspace::services_dir()).and_then(|()| fs::write(&file, text)) {
        step::say(format_args!(
            "{}: {error}; the next run cannot start the longest programs first",
            file.display()
        ));
    }
}
