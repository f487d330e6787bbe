//! The authorities this machine trusts, for Java.
//!
//! Java keeps its own list. On a machine behind an inspecting proxy the administrator has put the proxy's
//! authority into `/usr/local/share/ca-certificates`, and everything but a freshly installed Java knows it.
//! So Maven gets a copy of Java's list with those added; nothing outside `.services/` is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::step::{self, Result};

/// Where Debian's administrators add authorities (`update-ca-certificates`(8)).
const LOCAL: &str = "/usr/local/share/ca-certificates";
/// Of every Java key store that has not been given another; it protects nothing that is secret.
const PASSWORD: &str = "changeit";

/// The options for a JVM to trust the local authorities as well; none where there are none.
pub(super) fn java_options(java: &Path, dir: &Path) -> Result<Option<String>> {
    let local = local_authorities();
    // The program itself, behind the links of /usr/bin and /etc/alternatives; it lies in `<java home>/bin`.
    let java = fs::canonicalize(java).map_err(|e| format!("{}: {e}", java.display()))?;
    let Some(home) = java.parent().and_then(Path::parent) else { return Ok(None) };
    let own = home.join("lib/security/cacerts");
    if local.is_empty() || !own.is_file() {
        return Ok(None);
    }
    let store = dir.join("truststore");
    fs::copy(&own, &store).map_err(|e| format!("{} to {}: {e}", own.display(), store.display()))?;
    for (number, file) in local.iter().enumerate() {
        let mut command = Command::new(home.join("bin/keytool"));
        command
            .args(["-importcert", "-noprompt", "-storepass", PASSWORD, "-alias", &format!("local-{number}")])
            .arg("-keystore")
            .arg(&store)
            .arg("-file")
            .arg(file);
        step::capture(command, Duration::from_mins(1))?;
    }
    Ok(Some(format!("-Djavax.net.ssl.trustStore={}", store.display())))
}

fn local_authorities() -> Vec<PathBuf> {
    let entries = fs::read_dir(LOCAL).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "crt"));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}
