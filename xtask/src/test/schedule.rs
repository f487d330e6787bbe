//! Several test programs at once, the longest first.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::step::{self, Failure, Result};
use crate::test::suite::{Ended, Suite};
use crate::workspace;

/// Programs at once for each core. Each runs several tests at once already; with twice as many programs a dozen brokers and
/// their clients share two cores, and tests come late that wait for them.
const PER_CORE: usize = 1;
/// Seconds that the longest programs take on two cores, for the first run on a machine.
const LONGEST_S: &[(&str, f64)] = &[
    ("flash-sale/real", 80.0),
    ("processor/real", 50.0),
    ("store/real", 45.0),
    ("xtask/faults_leave_no_order_behind", 45.0),
    ("testkit/kafka_comes_and_goes", 30.0),
    ("loadgen/fast", 30.0),
    ("loadgen/real", 20.0),
    ("processor/fast", 20.0),
    ("gateway/fast", 15.0),
];
/// What any other program is taken to last: one against real services, and one without.
const OTHERS_S: (f64, f64) = (8.0, 0.5);
/// Without a program that ends, the ones that run are named this often.
const QUIET: Duration = Duration::from_secs(15);

/// How far everything is.
struct Progress {
    waiting: Vec<(f64, Suite)>,
    running: BTreeMap<String, Instant>,
    ended: Vec<Ended>,
    failure: Option<Failure>,
    all: usize,
    told: Instant,
}

/// Runs all; those that have to be alone at the end.
pub(crate) fn run(suites: Vec<Suite>) -> Result<Vec<Ended>> {
    let mut times = read_times();
    let seconds = |suite: &Suite| {
        let known = LONGEST_S.iter().find(|(name, _)| *name == suite.name).map(|(_, seconds)| *seconds);
        let other = if suite.is_real { OTHERS_S.0 } else { OTHERS_S.1 };
        times.get(&suite.name).copied().or(known).unwrap_or(other)
    };
    let mut waiting: Vec<(f64, Suite)> = suites.into_iter().map(|suite| (seconds(&suite), suite)).collect();
    // The last is taken first.
    waiting.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (alone, shared): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, suite)| suite.is_alone);
    let all = alone.len() + shared.len();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut ended = Vec::new();
    for (waiting, at_once) in [(shared, cores * PER_CORE), (alone, 1)] {
        let told = Instant::now();
        let progress = Progress { waiting, running: BTreeMap::new(), ended, failure: None, all, told };
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
                progress.lock().expect("no holder panics").tell_what_runs();
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
        self.told = Instant::now();
        let left_s = self.waiting.iter().map(|(seconds, _)| seconds).sum::<f64>().abs() / at_once as f64;
        let ended = self.ended.last().expect("just pushed");
        if ended.reason.is_some() {
            // Whole, so that outputs of programs that ran at once do not mix.
            println!("---- {}\n{}", ended.name, ended.output);
        }
        let verdict = if ended.reason.is_some() { "FAILED" } else { "ok" };
        step::say(format_args!(
            "{verdict} {:<52} {:>3} passed {:>6.1} s   {} of {}, {} run, about {left_s:.0} s left",
            ended.name,
            ended.count.passed,
            ended.took.as_secs_f64(),
            self.ended.len(),
            self.all,
            self.running.len(),
        ));
    }

    fn tell_what_runs(&mut self) {
        if self.told.elapsed() > QUIET {
            self.told = Instant::now();
            let name =
                |(name, since): (&String, &Instant)| format!("{name} for {} s", since.elapsed().as_secs());
            let running: Vec<String> = self.running.iter().map(name).collect();
            step::say(format_args!("still running: {}", running.join(", ")));
        }
    }
}

/// Seconds of each program in the last run here. Only the order of programs depends on it.
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
            "{}: {error}; the next run does not know which programs are long",
            file.display()
        ));
    }
}
