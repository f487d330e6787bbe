//! The tasks of one generator core, from its first connection to its result.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::time::sleep;
use shard::launch::Placement;

use crate::board::{CpuTime, Shared};
use crate::connection;
use crate::core::{Core, SWEEP_MS};

/// Sends this core's share of the requests and stores the result on its board.
pub(crate) async fn work(shared: Arc<Shared>, placement: Placement) {
    let core = Rc::new(Core::new(&shared, placement.index));
    for connection in 0..core.connections() {
        monoio::spawn(connection::run(Rc::clone(&core), connection));
    }
    core.wait_for_start().await;
    let cpu_before = thread_cpu_time();
    monoio::spawn(sweep(Rc::clone(&core)));
    core.run_schedule().await;
    let cpu = thread_cpu_time().zip(cpu_before).map(|(after, before)| CpuTime {
        ran_ns: after.ran_ns.saturating_sub(before.ran_ns),
        starved_ns: after.starved_ns.saturating_sub(before.starved_ns),
    });
    core.close_connections().await;
    core.store_result(placement.driver, cpu);
}

async fn sweep(core: Rc<Core>) {
    while !core.is_over() {
        core.sweep();
        sleep(Duration::from_millis(SWEEP_MS)).await;
    }
}

/// CPU time of this thread so far: the first two numbers of `schedstat`, nanoseconds.
fn thread_cpu_time() -> Option<CpuTime> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(CpuTime { ran_ns: numbers.next()?.ok()?, starved_ns: numbers.next()?.ok()? })
}
