//! Checks configurations that are too large for every test run. Started by `cargo xtask model`.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use model::ModelConfig;
use stateright::{Checker as _, Model as _};

/// Interval of progress lines.
const PROGRESS: Duration = Duration::from_secs(5);
/// A search stops after this many states and reports whether it is complete. A state takes about 250 bytes,
/// so this is 5 GB.
const STATES_MAX: usize = 20_000_000;

fn main() -> ExitCode {
    let base = ModelConfig {
        requests: vec![0, 0],
        limit: 1,
        stock: 1,
        records: Vec::new(),
        crashes: 1,
        rebalances: 1,
        replays: 1,
        bug: None,
    };
    let configs = [
        ("two sends, from admission to final status, one crash and one rebalance", base.clone()),
        (
            "two sends and another order of a user at the limit, one crash",
            ModelConfig { requests: vec![0, 0, 1], rebalances: 0, replays: 0, ..base.clone() },
        ),
        (
            "two orders and two late copies compete for one unit, two crashes and two rebalances",
            ModelConfig {
                requests: Vec::new(),
                records: vec![0, 1, 0, 1],
                limit: 2,
                crashes: 2,
                rebalances: 2,
                replays: 2,
                ..base
            },
        ),
    ];
    let mut broken = 0;
    for (name, config) in configs {
        broken += search(name, config);
    }
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the number of violated rules.
fn search(name: &str, config: ModelConfig) -> usize {
    let begun = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let checker = config.checker().threads(threads).target_state_count(STATES_MAX).spawn_bfs();
    let mut reported = begun;
    while !checker.is_done() {
        thread::sleep(Duration::from_millis(100));
        if reported.elapsed() > PROGRESS {
            reported = Instant::now();
            println!(
                "{:>5} s  {} states, depth {}",
                begun.elapsed().as_secs(),
                checker.unique_state_count(),
                checker.max_depth()
            );
        }
    }
    let checker = checker.join();
    let end = if checker.state_count() >= STATES_MAX { "stopped" } else { "complete" };
    let discoveries = checker.discoveries();
    println!(
        "{name}: {end} after {} states and {:.0} s, {} rules violated",
        checker.unique_state_count(),
        begun.elapsed().as_secs_f64(),
        discoveries.len()
    );
    for (rule, path) in &discoveries {
        println!("  violated: {rule}; by {:?}", path.clone().into_actions());
    }
    discoveries.len()
}
