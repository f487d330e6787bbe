//! One runtime a core.
//!
//! The driver is chosen per core: `io_uring` with `COOP_TASKRUN` and `SINGLE_ISSUER` (plain `io_uring` measured
//! slower than epoll here, design.md "Ring flags decide"), and epoll where that ring cannot be made: an old kernel, a
//! seccomp filter, a small memlock limit. monoio's own detection probes a ring of two entries only and returns an
//! error when the real one fails, hence our own fall-back. `MONOIO_FORCE_LEGACY_DRIVER=1` forces epoll.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use monoio::{LegacyDriver, RuntimeBuilder};

/// How a core waits for its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Completion based, with the ring flags above.
    IoUring,
    /// Readiness based.
    Epoll,
}

impl Driver {
    /// The value of the label `driver` of `gateway_io_driver`.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a core knows about itself when it starts.
#[derive(Debug, Clone)]
pub struct Seat {
    /// 0..n, dense: the index into everything that is kept per core.
    pub index: usize,
    /// The driver its runtime got.
    pub driver: Driver,
    /// Why it is epoll although `io_uring` was wanted.
    pub fallback_reason: Option<String>,
    /// The processor it is bound to, when it is.
    pub cpu: Option<usize>,
}

/// Ring entries of a core. Doubling costs 64 B + 2 × 16 B each of kernel memory and saves an early submit when more
/// operations than this are started in one turn: two per connection woken in the same turn.
const RING_ENTRIES: u32 = 4096;

/// The processors this process may run on, in ascending order (`sched_getaffinity`).
pub fn allowed_cpus() -> Vec<usize> {
    affinity::allowed()
}

/// Starts `count` threads named `<name>-<index>`, each with a runtime of its own that runs `life` to its end.
/// Thread i is bound to `cpus[i]` when there is one. The runtime is built on the thread that uses it, as
/// `SINGLE_ISSUER` demands.
///
/// # Errors
/// When a thread cannot be made. A runtime that cannot be built at all ends its thread with an error instead.
pub fn launch<F, L>(
    name: &str,
    count: usize,
    cpus: &[usize],
    life: F,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>>
where
    F: Fn(Seat) -> L + Send + Sync + 'static,
    L: Future<Output = ()>,
{
    let life = Arc::new(life);
    let mut threads = Vec::with_capacity(count);
    for index in 0..count {
        let life = Arc::clone(&life);
        let cpu = cpus.get(index).copied();
        let thread = thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
            let cpu = cpu.filter(|&cpu| monoio::utils::bind_to_cpu_set([cpu]).is_ok());
            run(index, cpu, |seat| life(seat))
        })?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Builds the best runtime this thread can have and runs one life on it. Also the way for a command line to talk to
/// Redis or Kafka from its main thread.
///
/// # Errors
/// When neither driver can be built.
pub fn run<F, L>(index: usize, cpu: Option<usize>, life: F) -> io::Result<()>
where
    F: FnOnce(Seat) -> L,
    L: Future<Output = ()>,
{
    let fallback_reason = match ring::runtime(RING_ENTRIES) {
        Ok(mut runtime) => {
            runtime.block_on(life(Seat { index, driver: Driver::IoUring, fallback_reason: None, cpu }));
            return Ok(());
        }
        Err(reason) => reason,
    };
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
    let seat = Seat { index, driver: Driver::Epoll, fallback_reason: Some(fallback_reason), cpu };
    runtime.block_on(life(seat));
    Ok(())
}

mod ring {
    use monoio::time::TimeDriver;
    use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

    /// A runtime on a ring with our flags, or why there is none.
    pub(super) fn runtime(entries: u32) -> Result<Runtime<TimeDriver<IoUringDriver>>, String> {
        let forced = std::env::var("MONOIO_FORCE_LEGACY_DRIVER").unwrap_or_default();
        if matches!(forced.as_str(), "1" | "true" | "yes") {
            return Err("MONOIO_FORCE_LEGACY_DRIVER is set".to_owned());
        }
        let mut flags = io_uring::IoUring::builder();
        flags.setup_coop_taskrun().setup_single_issuer();
        RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(flags)
            .with_entries(entries)
            .enable_timer()
            .build()
            .map_err(|error| format!("the ring cannot be made: {error}"))
    }
}

mod affinity {
    //! The one place that asks the kernel for the allowed set; monoio binds but cannot ask.
    #![allow(unsafe_code)]

    pub(super) fn allowed() -> Vec<usize> {
        // SAFETY: `cpu_set_t` is a plain bit array for which all zeroes is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: pid 0 is this thread; the pointer and the size describe `set`, which outlives the call.
        let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
        if result != 0 {
            let count = std::thread::available_parallelism().map_or(1, usize::from);
            return (0..count).collect();
        }
        // SAFETY: every index is below CPU_SETSIZE, the number of bits in `set`.
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
    }
}
