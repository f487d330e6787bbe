//! Fuller turns: threads that work off what has gathered do not push others aside when they are woken.
//!
//! By default a thread that is woken takes the processor from whoever has it, works off the one event that woke it and
//! sleeps again: on a busy machine every answer costs two context switches. Under `SCHED_BATCH` (sched(7)) a woken
//! thread waits until the processor is free or its fair turn has come, and finds more to do at once. It keeps its share
//! of the time, needs no privilege, and on an idle processor runs at once as ever. Measured in
//! `perf/budget.md`, "Turns".
#![allow(unsafe_code)]

/// Puts this thread, and those it starts from now on, under `SCHED_BATCH`; false when the kernel refuses, and all is as
/// before.
pub fn take_turns() -> bool {
    set(libc::SCHED_BATCH)
}

/// Makes something whose threads take turns: librdkafka's, which inherit the policy from the thread that makes the
/// client. This thread is as before afterwards.
pub fn with_turns<T>(make: impl FnOnce() -> T) -> T {
    let is_set = take_turns();
    let made = make();
    if is_set {
        set(libc::SCHED_OTHER);
    }
    made
}

fn set(policy: i32) -> bool {
    // By number: musl's function of this name refuses everything, since its threads and the kernel's are one.
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
    fn threads_inherit_the_policy_and_their_maker_goes_back() {
        let (inside, inherited) =
            with_turns(|| (policy(), std::thread::spawn(policy).join().expect("it only asks")));
        assert_eq!((inside, inherited), (libc::SCHED_BATCH, libc::SCHED_BATCH));
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
