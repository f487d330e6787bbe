//! Starts one runtime per core.
//!
//! The driver is chosen per core: `io_uring` with `COOP_TASKRUN` and `SINGLE_ISSUER` (plain `io_uring` measured slower than
//! epoll here), or epoll where that ring cannot be created: an old kernel, a seccomp filter, a small memlock limit. monoio's
//! own detection only probes a ring of two entries and returns an error when the real ring fails; therefore this module has
//! its own fallback. `MONOIO_FORCE_LEGACY_DRIVER=1` forces epoll.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use monoio::{LegacyDriver, RuntimeBuilder};

/// How a core waits for its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Completion-based, with the ring flags above.
    IoUring,
    /// Readiness-based.
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

/// Index, driver and CPU of a core.
#[derive(Debug, Clone)]
pub struct Placement {
    /// 0..n without gaps: the index into all per-core data.
    pub index: usize,
    /// The driver of its runtime.
    pub driver: Driver,
    /// Why it is epoll instead of `io_uring`, if it is.
    pub fallback_reason: Option<String>,
    /// The CPU it is pinned to, if any.
    pub cpu: Option<usize>,
}

/// Ring entries of a core. An entry costs 64 B + 2 × 16 B of kernel memory. More entries save an early submit when more
/// operations than this are started in one event loop tick: two per connection woken in the same tick.
const RING_ENTRIES: u32 = 4096;

/// The CPUs this process may run on, in ascending order (`sched_getaffinity`).
pub fn allowed_cpus() -> Vec<usize> {
    affinity::allowed()
}

/// Starts `count` threads named `<name>-<index>`, each with its own runtime that runs `main` to completion. Thread i is
/// pinned to `cpus[i]` if present. The runtime is built on the thread that uses it, as `SINGLE_ISSUER` requires.
///
/// # Errors
/// When a thread cannot be created. If no runtime can be built, the thread itself ends with an error.
pub fn launch<F, M>(
    name: &str,
    count: usize,
    cpus: &[usize],
    main: F,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>>
where
    F: Fn(Placement) -> M + Send + Sync + 'static,
    M: Future<Output = ()>,
{
    let main = Arc::new(main);
    let mut threads = Vec::with_capacity(count);
    for index in 0..count {
        let main = Arc::clone(&main);
        let cpu = cpus.get(index).copied();
        let thread = thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
            let cpu = cpu.filter(|&cpu| monoio::utils::bind_to_cpu_set([cpu]).is_ok());
            run(index, cpu, |placement| main(placement))
        })?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Builds the best available runtime on this thread and runs `main` on it. Command-line tools also use it to talk to Redis
/// or Kafka from their main thread.
///
/// # Errors
/// When neither driver can be built.
pub fn run<F, M>(index: usize, cpu: Option<usize>, main: F) -> io::Result<()>
where
    F: FnOnce(Placement) -> M,
    M: Future<Output = ()>,
{
    let fallback_reason = match ring::runtime(RING_ENTRIES) {
        Ok(mut runtime) => {
            runtime.block_on(main(Placement { index, driver: Driver::IoUring, fallback_reason: None, cpu }));
            return Ok(());
        }
        Err(reason) => reason,
    };
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
    let placement = Placement { index, driver: Driver::Epoll, fallback_reason: Some(fallback_reason), cpu };
    runtime.block_on(main(placement));
    Ok(())
}

mod ring {
    use monoio::time::TimeDriver;
    use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

    /// A runtime on a ring with these flags, or why it cannot be created.
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
            .map_err(|error| format!("the ring cannot be created: {error}"))
    }
}

mod affinity {
    //! Reads the set of allowed CPUs from the kernel; monoio can pin but not read it.
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
