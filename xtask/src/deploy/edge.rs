//! Checks `deploy/edge/haproxy.cfg` with haproxy itself.

use std::process::Command;

use crate::services::apt;
use crate::step::{self, Failure, Result};
use crate::workspace;

/// Treats warnings as errors. Names that are resolved at run time (`init-addr none`) need not resolve here.
pub(super) fn check() -> Result<Vec<String>> {
    // By path: Debian installs it in /usr/sbin, which only root has in PATH.
    let mut command = Command::new(apt::file("/usr/sbin/haproxy", "haproxy")?);
    command.args(["-c", "-dW", "-f", "deploy/edge/haproxy.cfg"]).current_dir(workspace::root());
    match step::run(command) {
        Ok(()) => Ok(Vec::new()),
        Err(Failure::Failed(reason)) => Ok(vec![reason]),
        Err(interrupted) => Err(interrupted),
    }
}
