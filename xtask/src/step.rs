//! Runs one step: prints a line when it starts, the command's output while it runs, and the duration when it
//! ends. Ctrl-C stops the step and everything it started.

use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use testkit::child::{self, Guarded};

/// Interval for polling a child process and the interrupt flag.
const POLL_MS: u64 = 20;

/// Why an xtask command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Error with its reason and, if there is one, the remedy.
    Failed(String),
    /// Stopped by SIGINT or SIGTERM.
    Interrupted,
}

/// Result of a fallible step.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl<T: Display> From<T> for Failure {
    fn from(reason: T) -> Self {
        Failure::Failed(reason.to_string())
    }
}

/// The first SIGINT or SIGTERM stops the current step. The second one stops this process immediately, and the
/// kernel kills its children.
pub(crate) fn listen_for_signals() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first handler acts only if the flag was set by an earlier signal.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(interrupt_flag()))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(interrupt_flag())))
            .expect("SIGINT and SIGTERM may be handled");
    }
}

fn interrupt_flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Fails once a signal was received. Every loop that waits calls it.
pub(crate) fn check_interrupt() -> Result<()> {
    // Relaxed: the flag guards no other data.
    if interrupt_flag().load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Sleeps for one poll interval, then fails if a signal was received.
pub(crate) fn pause() -> Result<()> {
    std::thread::sleep(Duration::from_millis(POLL_MS));
    check_interrupt()
}

/// Prints a progress line on standard error, with the seconds since program start.
pub(crate) fn say(text: impl Display) {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    eprintln!("xtask [{:7.1} s] {text}", start.elapsed().as_secs_f64());
}

/// Runs `work`, and prints a line before it and one with the duration after it.
pub(crate) fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    check_interrupt()?;
    say(format_args!("{name} ..."));
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "FAILED" };
    say(format_args!("{name}: {verdict} in {:.1} s", start.elapsed().as_secs_f64()));
    result
}

/// Runs a command, shows its output, and fails if the command fails.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let words = words(&command);
    command.stdin(Stdio::null());
    let status = wait(&mut start(command)?, None)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{words}` ended with {}", child::describe(status)).into())
    }
}

/// Runs a command, shows its standard error and passes each line of its standard output to `on_line`. The caller checks
/// the exit status.
pub(crate) fn run_piped(mut command: Command, mut on_line: impl FnMut(&str) + Send) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = start(command)?;
    let output = running.child().stdout.take().expect("standard output is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                on_line(&line);
            }
        });
        let status = wait(&mut running, None);
        // On an interrupt this ends the whole group, so that the reader sees the end of the pipe.
        drop(running);
        status
    })
}

/// Runs a command for at most `limit`. Returns standard output and error interleaved in line order, and the exit status;
/// the status is `None` when the command exceeded `limit` and was killed.
pub(crate) fn output(mut command: Command, limit: Duration) -> Result<(String, Option<ExitStatus>)> {
    let (reader, writer) = std::io::pipe().map_err(|e| format!("no pipe: {e}"))?;
    let errors = writer.try_clone().map_err(|e| format!("no pipe: {e}"))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut running = start(command)?;
    std::thread::scope(|scope| {
        let output = scope.spawn(move || read_all(reader));
        let begun = Instant::now();
        let status = loop {
            match running.ended() {
                Some(status) => break Ok(Some(status)),
                None if begun.elapsed() > limit => break Ok(None),
                None => {
                    if let Err(interrupted) = pause() {
                        break Err(interrupted);
                    }
                }
            }
        };
        // Also kills the command's own children, which closes the pipe.
        drop(running);
        let output = output.join().unwrap_or_default();
        status.map(|status| (output, status))
    })
}

/// Runs a command, shows its standard output line by line and passes each line to `on_line`. The caller checks
/// the exit status.
pub(crate) fn run_shown(mut command: Command, mut on_line: impl FnMut(&str) + Send) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = start(command)?;
    let output = running.child().stdout.take().expect("standard output is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut screen = std::io::stdout().lock();
            let mut lines = BufReader::new(output);
            let mut line = Vec::new();
            // Bytes, not text: a test may print invalid UTF-8.
            while lines.read_until(b'\n', &mut line).is_ok_and(|filled| filled > 0) {
                // A closed screen must not stop the tests.
                drop(screen.write_all(&line).and_then(|()| screen.flush()));
                on_line(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
        });
        let status = wait(&mut running, None);
        // On an interrupt this ends the whole group, so that the reader sees the end of the pipe.
        drop(running);
        status
    })
}

/// Runs a command for at most `limit` without showing its output. Returns standard output, or the reason for failure.
pub(crate) fn capture(mut command: Command, limit: Duration) -> Result<String> {
    let words = words(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = start(command)?;
    let output = running.child().stdout.take().expect("standard output is piped");
    let errors = running.child().stderr.take().expect("standard error is piped");
    std::thread::scope(|scope| {
        let output = scope.spawn(move || read_all(output));
        let errors = scope.spawn(move || read_all(errors));
        let status = wait(&mut running, Some(limit));
        drop(running);
        let (output, errors) = (output.join().unwrap_or_default(), errors.join().unwrap_or_default());
        let status = status?;
        if status.success() {
            return Ok(output);
        }
        Err(format!("`{words}` ended with {}: {}", child::describe(status), errors.trim()).into())
    })
}

fn read_all(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    // On a read error, the bytes read so far are returned.
    drop(source.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn start(command: Command) -> Result<Guarded> {
    check_interrupt()?;
    let program = command.get_program().to_string_lossy().into_owned();
    child::spawn(command).map_err(|e| format!("cannot start `{program}`: {e}").into())
}

fn wait(running: &mut Guarded, limit: Option<Duration>) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = running.ended() {
            return Ok(status);
        }
        if limit.is_some_and(|limit| start.elapsed() > limit) {
            return Err(format!("did not exit within {:?}", limit.unwrap_or_default()).into());
        }
        pause()?;
    }
}

/// The command line as typed in a shell.
pub(crate) fn words(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    if text.contains('/') {
        text = text.rsplit('/').next().unwrap_or_default().to_owned();
    }
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
