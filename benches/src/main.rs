//! Runs one station, for callgrind to count: `road-benches <station>`; without an argument it names them all.
//!
//! callgrind collects inside [`under_callgrind`] only (`--toggle-collect`), on the thread that calls it: what a station needs is
//! made, and every buffer and table grown, before.

use std::process::ExitCode;

use road_benches::{Work, all};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Orders before counting: twice over all of them.
const WARM_UP: usize = 2 * road_benches::orders::COUNT;
/// Orders counted; printed, so that xtask divides by what was really done.
const COUNTED: usize = 16 * road_benches::orders::COUNT;

fn main() -> ExitCode {
    let stations = all();
    let Some(name) = std::env::args().nth(1) else {
        for station in stations {
            println!("{}", station.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(station) = stations.iter().find(|station| station.name == name) else {
        eprintln!("no station `{name}`; without an argument this program names them");
        return ExitCode::FAILURE;
    };
    (station.run)(&mut |work| {
        (0..WARM_UP).for_each(&mut *work);
        under_callgrind(work);
    });
    println!("{COUNTED}");
    ExitCode::SUCCESS
}

/// The one function that callgrind looks into, by its name.
#[inline(never)]
fn under_callgrind(work: Work<'_>) {
    for number in 0..COUNTED {
        work(number);
    }
}
