//! A fixed share of one core for a process, by the CPU controller of a control group (v1 or v2).
//!
//! Redis on a share has a fixed capacity, and the rest of the machine has idle time. The generator and the refusals
//! then do not take from Redis what accepted orders need, which is how it is when each has a machine of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::step::Result;

/// The quota is granted anew after this time, so a process on a share pauses for less than this. The kernel's minimum
/// for a quota is 1 ms (Documentation/scheduler/sched-bwc).
const PERIOD_US: u64 = 10_000;
/// The smallest share: a quota of 1 ms.
pub(super) const SHARE_MIN: f64 = 0.1;

/// The group. When this is dropped, its process has a whole core again.
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
        // A process that has ended has left the group by itself.
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
