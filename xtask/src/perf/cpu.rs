//! What a process has used so far, from /proc.

use std::fs;

/// Kernel's unit of process times: always 100 a second towards user space (`USER_HZ`, proc(5)).
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds of a process, children not included; 0 when it is gone.
pub(crate) fn seconds(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    // The name in parentheses may hold blanks; fields are counted after it: utime is the 14th of all.
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_S
}

/// Resident memory, bytes; 0 when it is gone.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn our_own_process_has_used_something() {
        let pid = std::process::id();
        let before = super::seconds(pid);
        while super::seconds(pid) - before < 0.02 {
            std::hint::black_box(0);
        }
        assert!(super::seconds(u32::MAX) < f64::EPSILON);
    }
}
