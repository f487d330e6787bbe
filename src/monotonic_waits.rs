//! Makes librdkafka's timed waits use the monotonic clock.
//!
//! librdkafka 2.12 computes the end of each timed wait from the wall clock and passes it to `cnd_timedwait` on a condition
//! variable that uses `CLOCK_REALTIME` (librdkafka #2145). If the wall clock is set back by ten minutes, a thread that is
//! waiting at that moment waits ten minutes longer; this affects timers, retries and the shutdown of the client. All waits go
//! through `cnd_init` and `cnd_timedwait`, either of libc (C11 threads, if its configure script finds them) or of its own
//! `tinycthread.c`. The linker (`--wrap`, see `build.rs`) redirects both functions to this file. It creates the condition
//! variables with `CLOCK_MONOTONIC` and converts the end of each wait to that clock at once, so that later steps of the wall
//! clock have no effect. In glibc, in musl and in `tinycthread.h`, a `cnd_t` is a `pthread_cond_t` and a `mtx_t` is a
//! `pthread_mutex_t`.
//!
//! Remaining error: a clock step in the few microseconds between librdkafka's reading of the wall clock and ours lengthens or
//! shortens that one wait; `WAIT_MAX` bounds it.
#![allow(unsafe_code)]

use std::time::Duration;

use libc::{c_int, clockid_t, pthread_cond_t, pthread_condattr_t, pthread_mutex_t, timespec};

/// `thrd_success`, `thrd_error` and `thrd_timedout`: the same in glibc, musl and `tinycthread.h`.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;
/// Maximum duration of a single wait. After each wait librdkafka checks its own monotonic deadline and waits again.
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

/// Replaces `cnd_init`.
///
/// # Safety
/// `condition` must point to memory for a condition variable.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_cnd_init(condition: *mut pthread_cond_t) -> c_int {
    let mut attributes = std::mem::MaybeUninit::<pthread_condattr_t>::uninit();
    // SAFETY: the attributes are initialised by the first call, used by the next two and destroyed once; the caller
    // guarantees that `condition` is valid.
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

/// Replaces `cnd_timedwait`. `until` is a time of the wall clock.
///
/// # Safety
/// As for `pthread_cond_timedwait`: live pointers, the mutex held by this thread.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller guarantees a live pointer.
    let until = duration(unsafe { *until });
    let left = until.saturating_sub(now(libc::CLOCK_REALTIME)).min(WAIT_MAX);
    let until = now(libc::CLOCK_MONOTONIC) + left;
    let until = timespec {
        tv_sec: until.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(until.subsec_nanos()),
    };
    // SAFETY: the caller guarantees the pointers and the mutex; the condition variable was created by `__wrap_cnd_init`, so it
    // uses the clock of `until`.
    match unsafe { libc::pthread_cond_timedwait(condition, mutex, &raw const until) } {
        0 => SUCCESS,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}
