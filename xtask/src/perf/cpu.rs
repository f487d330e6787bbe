//! What a process has used so far, from /proc.

use std::fs;

/// Kernel's unit of process times: always 100 a second towards user space (`USER_HZ`, proc(5)).
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds of a process and of the others in the process group it leads, as far as they run; 0 when it is gone. What the
/// stage starts leads a group, and a server may work in children of its own.
pub(crate) fn seconds(pid: u32) -> f64 {
    group(pid).iter().filter_map(|&pid| Some(Stat::of(pid)?.cpu_s)).sum()
}

/// Resident memory, bytes, of the same processes; 0 when it is gone. What they share counts in each of them.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    group(pid).iter().map(|&pid| rss_of(pid)).sum()
}

fn rss_of(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The process itself, and the members of the group that bears its number.
fn group(leader: u32) -> Vec<u32> {
    let mut pids = vec![leader];
    let Ok(entries) = fs::read_dir("/proc") else { return pids };
    let others = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.extend(
        others.filter(|&pid| pid != leader && Stat::of(pid).is_some_and(|stat| stat.group == leader)),
    );
    pids
}

/// What /proc says of one process.
struct Stat {
    group: u32,
    cpu_s: f64,
}

impl Stat {
    /// `None` when it is gone.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold blanks; fields are counted after it: the group is the 5th of all, utime the 14th.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks =
            |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        Some(Self { group: fields.get(2)?.parse().ok()?, cpu_s: (ticks(11) + ticks(12)) / TICKS_PER_S })
    }
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

    #[test]
    fn what_a_child_uses_is_counted_and_its_memory_too() {
        let mut command = std::process::Command::new("sh");
        // The shell itself only waits.
        command.args(["-c", "(while :; do :; done) & wait"]);
        let shell = testkit::child::spawn(command).expect("there is a shell");
        while super::seconds(shell.pid()) < 0.05 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(super::Stat::of(shell.pid()).is_some_and(|stat| stat.cpu_s < 0.05));
        assert!(super::rss_bytes(shell.pid()) > super::rss_of(shell.pid()));
    }
}
