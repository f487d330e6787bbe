//! Limits a process to a fixed share of one core, by the CPU controller of a control group (v1 or v2).
//!
//! With a limited share Redis has a fixed capacity, and the rest of the machine has idle time. Load generator and refusals
//! then take no CPU from Redis that accepted orders need, as if each process had a separate machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::step::Result;

/// The quota is renewed after this time, so a limited process pauses for less than this. The kernel's minimum
/// quota is 1 ms (Documentation/scheduler/sched-bwc).
const PERIOD_US: u64 = 10_000;
/// The smallest share: a quota of 1 ms.
pub(super) const SHARE_MIN: f64 = 0.1;

/// The control group. Dropping it removes the limit.
pub(super) struct Share {
    group: PathBuf,
    pid: u32,
}

impl Share {
    /// Limits `pid` to this share of one core. Needs root and a writable hierarchy with the controller `cpu`.
    pub(super) fn of(pid: u32, share: f64) -> Result<Self> {
        let quota_us = (share * PERIOD_US as f64) as u64;
        let name = format!("xtask-overload-{pid}");
        let (group, settings) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            let group = Path::new("/sys/fs/cgroup").join(name);
            (group, vec![("cpu.max", format!("{quota_us} {PERIOD_US}"))])
        } else {
            let group = Path::new("/sys/fs/cgroup/cpu").join(name);
            let settings = vec![
                ("cpu.cfs_period_us", PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota_us.to_string()),
            ];
            (group, settings)
        };
        let failed = |error: std::io::Error| {
            format!(
                "{}: {error}; --redis-share needs root and the CPU controller of cgroups",
                group.display()
            )
        };
        fs::create_dir(&group).map_err(failed)?;
        let share = Self { group, pid };
        for (file, value) in settings.into_iter().chain([("cgroup.procs", pid.to_string())]) {
            fs::write(share.group.join(file), value)
                .map_err(|error| format!("{}/{file}: {error}", share.group.display()))?;
        }
        Ok(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let parent = self.group.with_file_name("cgroup.procs");
        // A process that has exited is no longer in the group.
        drop(fs::write(parent, self.pid.to_string()));
        for _ in 0..100 {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("xtask: {} could not be removed", self.group.display());
    }
}
