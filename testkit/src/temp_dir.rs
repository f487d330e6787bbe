//! A temporary directory that is removed with its owner.

use std::path::{Path, PathBuf};

/// An empty directory under the system's temporary directory, removed with everything in it on `Drop`.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Creates `<tmp>/<prefix>-<pid>-<random>`.
    ///
    /// # Panics
    /// When the temporary directory is not writable.
    pub fn new(prefix: &str) -> Self {
        let name = format!("{prefix}-{}-{:08x}", std::process::id(), crate::port::draw() as u32);
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|e| panic!("cannot create the directory {}: {e}", path.display()));
        Self { path }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A child that is being killed may still write a file; the system cleans up such leftovers.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::TempDir;

    #[test]
    fn directory_is_removed_on_drop() {
        let dir = TempDir::new("testkit-self");
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), b"x").expect("the directory is writable");
        drop(dir);
        assert!(!path.exists());
    }
}
