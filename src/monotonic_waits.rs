//! librdkafka's timed waits by the monotonic clock.
//!
//! librdkafka 2.12 computes the end of each timed wait from the wall clock and hands it to `cnd_timedwait` on a condition
//! variable of `CLOCK_REALTIME` (librdkafka #2145). A wall clock that is set back by ten minutes then keeps a thread that
//! waits at that moment waiting for ten minutes: timers, retries, the end of the client. All of its waits go through
//! `cnd_init` and `cnd_timedwait`, whether they are libc's (C11 threads, as found by its configure script) or those of its
//! own `tinycthread.c`; the linker (`--wrap`, see `build.rs`) leads both here. The condition variables are made with
//! `CLOCK_MONOTONIC`, and the end of a wait is moved to that clock at once, so that a later step of the wall clock changes
//! nothing. In glibc, in musl and in `tinycthread.h` a `cnd_t` is a `pthread_cond_t` and a `mtx_t` a `pthread_mutex_t`.
//!
//! What remains: a step between librdkafka's reading of the wall clock and ours, some microseconds, lengthens or shortens
//! that one wait; [`WAIT_MAX`] bounds it.
#![allow(unsafe_code)]

use std::time::Duration;

use libc::{c_int, clockid_t, pthread_cond_t, pthread_condattr_t, pthread_mutex_t, timespec};

/// `thrd_success`, `thrd_error` and `thrd_timedout`: the same in glibc, musl and `tinycthread.h`.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;
/// No wait lasts longer at once: librdkafka compares with its own monotonic deadline after each and waits again.
const WAIT_MAX: Duration = Duration::from_secs(10);

fn now(clock: clockid_t) -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live local that the call fills; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    duration(time)
}

fn duration(time: timespec) -> Duration {
    // Never negative: both clocks count from a moment in the past, and librdkafka adds to them.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// In place of `cnd_init`.
///
/// # Safety
/// `condition` must point to memory for a condition variable.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_cnd_init(condition: *mut pthread_cond_t) -> c_int {
    let mut attributes = std::mem::MaybeUninit::<pthread_condattr_t>::uninit();
    // SAFETY: the attributes are initialised by the first call, used by the next two and destroyed once; `condition` is
    // the caller's promise.
    unsafe {
        if libc::pthread_condattr_init(attributes.as_mut_ptr()) != 0 {
            return ERROR;
        }
        let is_set = libc::pthread_condattr_setclock(attributes.as_mut_ptr(), libc::CLOCK_MONOTONIC) == 0;
        let is_made = is_set && libc::pthread_cond_init(condition, attributes.as_ptr()) == 0;
        libc::pthread_condattr_destroy(attributes.as_mut_ptr());
        if is_made { SUCCESS } else { ERROR }
    }
}

/// In place of `cnd_timedwait`: `until` is by the wall clock.
///
/// # Safety
/// As for `pthread_cond_timedwait`: live pointers, the mutex held by this thread.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: live by the caller's promise.
    let until = duration(unsafe { *until });
    let left = until.saturating_sub(now(libc::CLOCK_REALTIME)).min(WAIT_MAX);
    let until = now(libc::CLOCK_MONOTONIC) + left;
    let until = timespec {
        tv_sec: until.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(until.subsec_nanos()),
    };
    // SAFETY: as the caller promises; the condition variable was made by `__wrap_cnd_init`, so `until` is by its clock.
    match unsafe { libc::pthread_cond_timedwait(condition, mutex, &raw const until) } {
        0 => SUCCESS,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}
