//! `deploy/edge/haproxy.cfg`, read by haproxy itself.

use std::process::Command;

use crate::services::apt;
use crate::step::{self, Failure, Result};
use crate::workspace;

/// Warnings are errors. The names it resolves at run time (`init-addr none`) need not be there.
pub(super) fn check() -> Result<Vec<String>> {
    // Not by PATH: Debian puts it where only root looks.
    let mut command = Command::new(apt::file("/usr/sbin/haproxy", "haproxy")?);
    command.args(["-c", "-dW", "-f", "deploy/edge/haproxy.cfg"]).current_dir(workspace::root());
    match step::run(command) {
        Ok(()) => Ok(Vec::new()),
        Err(Failure::Failed(reason)) => Ok(vec![reason]),
        Err(interrupted) => Err(interrupted),
    }
}
