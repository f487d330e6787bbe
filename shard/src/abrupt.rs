//! Immediate exit of a process that cannot shut down in order: one line on standard error, then `_exit`.
//!
//! Nothing here may wait for a part that may have failed, such as the log thread or a library's exit handler. If nobody
//! reads standard error, the exit is delayed by at most `LINE_TIME_MAX`.
#![allow(unsafe_code)]

use std::io::Write as _;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

/// Maximum time to write the line.
const LINE_TIME_MAX: Duration = Duration::from_millis(200);

/// Writes `flash-sale: <line>` and exits the process with `code`.
pub fn end(line: &str, code: i32) -> ! {
    let text = format!("flash-sale: {line}\n");
    let (done, wait) = sync_channel(1);
    let writer = thread::Builder::new().name("last-line".to_owned()).spawn(move || {
        // If standard error fails there is nowhere left to report it.
        let _ = std::io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = wait.recv_timeout(LINE_TIME_MAX);
    }
    // SAFETY: _exit(2) takes a number, runs no handler and touches no memory.
    unsafe { libc::_exit(code) }
}

/// The kernel's names of this process's threads (15 characters), sorted, without those in `except`.
pub fn thread_names(except: &[&str]) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let mut names: Vec<String> = tasks.filter_map(name).map(|name| name.trim().to_owned()).collect();
    names.retain(|name| !except.contains(&name.as_str()));
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    #[test]
    fn running_threads_are_listed_by_name() {
        let (end, wait) = channel::<()>();
        let (begun, has_begun) = channel();
        let thread = std::thread::Builder::new().name("a-hung-thread".to_owned()).spawn(move || {
            let _ = begun.send(());
            let _ = wait.recv();
        });
        has_begun.recv().expect("it runs");
        assert!(super::thread_names(&[]).contains(&"a-hung-thread".to_owned()));
        assert!(!super::thread_names(&["a-hung-thread"]).contains(&"a-hung-thread".to_owned()));
        drop(end);
        thread.expect("a thread").join().expect("it ends");
    }
}
