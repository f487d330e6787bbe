//! A small disk that a fault can fill.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Result};

/// A small separate file system (tmpfs), unmounted when dropped. Mounting needs root.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Creates the directory and mounts the file system there.
    pub(crate) fn mount(path: PathBuf, mib: u32) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "xtask-chaos"]).arg(&path);
        let remedy = "a full disk is simulated on a small tmpfs. Remedy: run as root";
        step::run(command).map_err(|failure| match failure {
            step::Failure::Failed(reason) => format!("{reason}; {remedy}").into(),
            interrupted @ step::Failure::Interrupted => interrupted,
        })?;
        Ok(Self { path })
    }

    /// Mount point.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Writes until the file system is full.
    pub(crate) fn fill(&self) -> Result<()> {
        let path = self.ballast();
        let mut file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for block in [1 << 20, 1 << 12, 1] {
            let zeroes = vec![0; block];
            while file.write(&zeroes).is_ok_and(|written| written > 0) {}
        }
        Ok(())
    }

    pub(crate) fn free(&self) -> Result<()> {
        let path = self.ballast();
        fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()).into())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have a file open.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}
