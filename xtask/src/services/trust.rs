//! Makes Java trust the certificate authorities that this machine trusts.
//!
//! Java keeps its own list. On a machine behind a TLS-inspecting proxy the administrator has added the proxy's
//! authority to `/usr/local/share/ca-certificates`, which a newly installed Java does not read. Maven therefore
//! gets a copy of Java's list with those authorities added; nothing outside `.services/` is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::step::{self, Result};

/// Where administrators of Debian systems add authorities (`update-ca-certificates`(8)).
const LOCAL: &str = "/usr/local/share/ca-certificates";
/// Default password of Java key stores; it protects no secret.
const PASSWORD: &str = "changeit";

/// JVM options to also trust the local authorities; `None` if there are none.
pub(super) fn java_options(java: &Path, dir: &Path) -> Result<Option<String>> {
    let local = local_authorities();
    // Resolves the links in /usr/bin and /etc/alternatives to the program in `<java home>/bin`.
    let java = fs::canonicalize(java).map_err(|e| format!("{}: {e}", java.display()))?;
    let Some(home) = java.parent().and_then(Path::parent) else { return Ok(None) };
    let java_store = home.join("lib/security/cacerts");
    if local.is_empty() || !java_store.is_file() {
        return Ok(None);
    }
    let store = dir.join("truststore");
    fs::copy(&java_store, &store)
        .map_err(|e| format!("{} to {}: {e}", java_store.display(), store.display()))?;
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
