//! The scheduling policy `SCHED_BATCH`: a thread that is woken does not preempt others, so it processes more per wake-up.
//!
//! By default a woken thread preempts the running one, handles the single event that woke it and sleeps again: on a busy
//! machine every response costs two context switches. Under `SCHED_BATCH` (sched(7)) a woken thread waits until the CPU is
//! free or its fair share is due, and then finds several events to handle. It keeps its share of the time, needs no
//! privilege, and on an idle CPU still runs at once. Measurements: `perf/budget.md`, "Batch scheduling".
#![allow(unsafe_code)]

/// Sets `SCHED_BATCH` for this thread and those that it starts from now on. False when the kernel refuses; then nothing
/// changes.
pub fn enable() -> bool {
    set(libc::SCHED_BATCH)
}

/// Runs `make` under `SCHED_BATCH`, so that threads it starts inherit the policy: those of librdkafka inherit it from the
/// thread that creates the client. Afterwards this thread has its former policy again.
pub fn during<T>(make: impl FnOnce() -> T) -> T {
    let is_set = enable();
    let made = make();
    if is_set {
        set(libc::SCHED_OTHER);
    }
    made
}

fn set(policy: i32) -> bool {
    // A raw system call: musl's function of this name always fails, because POSIX defines the policy per process and the
    // kernel sets it per thread.
    let priority: libc::c_int = 0;
    // SAFETY: pid 0 is this thread; the kernel's `sched_param` is one int, and the pointer is to a live local that the
    // call only reads. Both policies take priority 0 and need no privilege.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: pid 0 is this thread; no memory is touched.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn threads_inherit_the_policy_and_the_caller_gets_its_own_back() {
        let (inside, inherited) = during(|| (policy(), std::thread::spawn(policy).join().expect("no panic")));
        assert_eq!((inside, inherited), (libc::SCHED_BATCH, libc::SCHED_BATCH));
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
