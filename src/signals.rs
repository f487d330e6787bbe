//! The first SIGTERM or SIGINT asks for an orderly end, the second one ends at once.

use std::process::exit;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Signals from the moment this is made: make it before anything is started, so that none is missed.
pub(crate) struct Ending {
    signals: Signals,
}

impl Ending {
    /// Takes over SIGINT and SIGTERM.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { signals: Signals::new([SIGINT, SIGTERM])? })
    }

    /// Waits for the first. A second one then ends the process with 128 plus its number.
    pub(crate) fn wait(mut self) -> i32 {
        let first = self.signals.forever().next().unwrap_or(SIGTERM);
        self.exit_on_next();
        first
    }

    /// Calls `first` at the first signal, on a thread of its own; a second one ends the process.
    pub(crate) fn spawn(mut self, first: impl FnOnce(i32) + Send + 'static) {
        thread::spawn(move || {
            if let Some(signal) = self.signals.forever().next() {
                first(signal);
                self.exit_on_next();
            }
        });
    }

    fn exit_on_next(mut self) {
        thread::spawn(move || {
            if let Some(signal) = self.signals.forever().next() {
                exit(128 + signal);
            }
        });
    }
}
