//! Runs one stage so that callgrind can count its instructions: `stage-benches <stage>`. Without an argument it lists all
//! stages.
//!
//! callgrind collects only inside [`under_callgrind`] (`--toggle-collect`), on the calling thread. Before that, the setup of
//! the stage is complete and all buffers and tables have grown.

use std::process::ExitCode;

use stage_benches::{Work, all};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Warm-up orders before counting: two rounds over all orders.
const WARM_UP: usize = 2 * stage_benches::orders::COUNT;
/// Number of counted orders; printed, so that xtask divides by the actual number.
const COUNTED: usize = 16 * stage_benches::orders::COUNT;

fn main() -> ExitCode {
    let stages = all();
    let Some(name) = std::env::args().nth(1) else {
        for stage in stages {
            println!("{}", stage.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(stage) = stages.iter().find(|stage| stage.name == name) else {
        eprintln!("no stage `{name}`; run without an argument to list all stages");
        return ExitCode::FAILURE;
    };
    (stage.run)(&mut |work| {
        (0..WARM_UP).for_each(&mut *work);
        under_callgrind(work);
    });
    println!("{COUNTED}");
    ExitCode::SUCCESS
}

/// The only function in which callgrind collects, selected by its name.
#[inline(never)]
fn under_callgrind(work: Work<'_>) {
    for number in 0..COUNTED {
        work(number);
    }
}
