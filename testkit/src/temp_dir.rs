//! A directory that goes with its owner.

use std::path::{Path, PathBuf};

/// An empty directory under the system's temporary directory, removed with everything in it on `Drop`.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes `<tmp>/<prefix>-<pid>-<random>`.
    ///
    /// # Panics
    /// When the temporary directory is not writable.
    pub fn new(prefix: &str) -> Self {
        let name = format!("{prefix}-{}-{:08x}", std::process::id(), crate::port::draw() as u32);
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|e| panic!("cannot make the directory {}: {e}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A file may still be written by a child that is being killed; what is left is the system's temporary
        // rubbish.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::TempDir;

    #[test]
    fn it_is_there_while_owned_and_gone_after() {
        let dir = TempDir::new("testkit-self");
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), b"x").expect("the directory is writable");
        drop(dir);
        assert!(!path.exists());
    }
}
