//! CPU time and memory of a process, read from /proc.

use std::fs;

/// Unit of process times in /proc: always 100 ticks per second in user space (`USER_HZ`, proc(5)).
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds of a process without its children; 0 if it has exited.
pub(crate) fn seconds(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    // The name in parentheses may contain spaces, so fields are counted after it; utime is field 14 of the line.
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_S
}

/// Process ids of a process and its children, such as the workers of a forking server.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return vec![pid] };
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let mut pids = vec![pid];
    for line in children {
        pids.extend(line.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

/// CPU seconds of a process and its children.
pub(crate) fn family_seconds(pid: u32) -> f64 {
    family(pid).into_iter().map(seconds).sum()
}

/// CPU nanoseconds of each thread whose name starts with `name`, sorted by thread id; exact, not in ticks.
pub(crate) fn threads_ns(pid: u32, name: &str) -> Vec<(u32, u64)> {
    let read = |tid: u32, file: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{file}")).ok();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut threads: Vec<(u32, u64)> = tasks
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&tid| read(tid, "comm").is_some_and(|comm| comm.starts_with(name)))
        // The first number of schedstat: time spent on a CPU (Documentation/scheduler/sched-stats).
        .filter_map(|tid| Some((tid, read(tid, "schedstat")?.split_ascii_whitespace().next()?.parse().ok()?)))
        .collect();
    threads.sort_unstable();
    threads
}

/// Resident memory in bytes; 0 if the process has exited.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_time_of_this_process_is_read() {
        let pid = std::process::id();
        let before = super::seconds(pid);
        while super::seconds(pid) - before < 0.02 {
            std::hint::black_box(0);
        }
        assert!(super::seconds(u32::MAX) < f64::EPSILON);
        assert!(super::threads_ns(pid, "").iter().map(|(_, ns)| ns).sum::<u64>() > 10_000_000);
    }
}
