//! Logging: one JSON object per line on stdout, without ever delaying an order.
//!
//! A core writes lines into its own buffer (`CoreLog`); full or due buffers go through a bounded queue to one writer
//! thread (`Sink`). When the queue is full because the output is slow, the buffer's lines are dropped and counted. No
//! logging crate is used, because the request path logs a line per order: here that costs one copy into a warm buffer.
//! Everything else uses the same writer, so that lines never interleave.
//!
//! Bound: `CHUNKS_MAX` × `CHUNK_BYTES` queued, plus one chunk per core.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::order::escape_json_into;

use crate::clock;

/// A chunk goes to the writer at this size. Doubling it halves the hand-offs (currently one per 250 lines).
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait for a slow output: 64 × 64 KiB = 4 MiB, a third of a second at full speed.
const CHUNKS_MAX: usize = 64;

/// Maximum time to write the last lines of a process: longer than any reader pauses, shorter than the slack of a shutdown.
/// Lines that nobody reads by then are lost, as they are while the process runs.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
/// Interval between attempts to enter a full queue.
const FLUSH_RETRY: Duration = Duration::from_millis(5);

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Each rejected order.
    Debug,
    /// Normal operation.
    Info,
    /// Needs attention.
    Warn,
    /// A fault of the service itself.
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

enum Job {
    Lines { bytes: Vec<u8>, lines: u64 },
    Flush(SyncSender<()>),
}

/// Handle of the writer thread. Shared by all cores.
pub struct Sink {
    jobs: SyncSender<Job>,
    empty_buffers: Mutex<Receiver<Vec<u8>>>,
    dropped: AtomicU64,
    level: Level,
    service: &'static str,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sink").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts the writer thread for `out`. It ends when the sink and all core logs have been dropped.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn start(
        service: &'static str,
        level: Level,
        mut out: impl Write + Send + 'static,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let (jobs, inbox) = sync_channel::<Job>(CHUNKS_MAX);
        let (return_buffer, empty_buffers) = sync_channel::<Vec<u8>>(CHUNKS_MAX);
        let writer = thread::Builder::new().name("log".to_owned()).spawn(move || {
            for job in inbox {
                match job {
                    Job::Lines { mut bytes, .. } => {
                        // A closed stdout must not end a sale, and there is nowhere to report it.
                        let _ = out.write_all(&bytes).and_then(|()| out.flush());
                        bytes.clear();
                        let _ = return_buffer.try_send(bytes);
                    }
                    Job::Flush(done) => drop(done),
                }
            }
        })?;
        let sink = Self {
            jobs,
            empty_buffers: Mutex::new(empty_buffers),
            dropped: AtomicU64::new(0),
            level,
            service,
        };
        Ok((Arc::new(sink), writer))
    }

    /// Lines dropped because the output was slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The minimum level that is written.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Writes one line immediately. For threads outside the request path.
    pub fn line(&self, level: Level, event: &str, message: &str, fields: impl FnOnce(&mut Line<'_>)) {
        if level < self.level {
            return;
        }
        let mut bytes = Vec::with_capacity(512);
        write_line(
            &mut bytes,
            &clock::rfc3339_ms(clock::unix_ms()),
            level,
            self.service,
            event,
            message,
            fields,
        );
        self.hand_over(bytes, 1);
    }

    /// Waits up to `timeout` until everything passed to the writer so far is written; false on timeout, because nobody reads
    /// the output. Blocks: only for the end of a process.
    pub fn flush_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, wait) = sync_channel(0);
        let mut job = Job::Flush(done);
        // If nobody reads the output the queue stays full, and a blocking `send` would never return.
        while let Err(refused) = self.jobs.try_send(job) {
            let TrySendError::Full(back) = refused else { return false };
            if Instant::now() >= deadline {
                return false;
            }
            job = back;
            thread::sleep(FLUSH_RETRY);
        }
        // The writer drops the sender when it reaches this job: a disconnect is the confirmation.
        let answer = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        answer == Err(RecvTimeoutError::Disconnected)
    }

    /// [`Sink::flush_within`] with [`FLUSH_TIME_MAX`].
    pub fn flush(&self) {
        self.flush_within(FLUSH_TIME_MAX);
    }

    fn hand_over(&self, bytes: Vec<u8>, lines: u64) {
        if let Err(refused) = self.jobs.try_send(Job::Lines { bytes, lines }) {
            let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = refused;
            if let Job::Lines { lines, .. } = job {
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
        }
    }

    fn recycled(&self) -> Vec<u8> {
        let buffer = self.empty_buffers.lock().try_recv();
        buffer.unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES + 4096))
    }
}

/// The log of one core. Call [`CoreLog::flush`] at every tick of the core's sweep; otherwise lines stay in the chunk until it
/// is full.
pub struct CoreLog {
    sink: Arc<Sink>,
    chunk: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    /// The timestamp of the current millisecond, formatted once.
    stamp: RefCell<(u64, String)>,
}

impl CoreLog {
    /// A log that writes through `sink`.
    pub fn new(sink: Arc<Sink>) -> Self {
        let chunk = RefCell::new(Vec::with_capacity(CHUNK_BYTES + 4096));
        Self { sink, chunk, lines: Cell::new(0), stamp: RefCell::new((0, String::new())) }
    }

    /// True when a line of this level would be written; check before collecting costly fields.
    pub fn is_on(&self, level: Level) -> bool {
        level >= self.sink.level
    }

    /// Adds a line to the core's chunk.
    pub fn line(&self, level: Level, event: &str, message: &str, fields: impl FnOnce(&mut Line<'_>)) {
        self.line_at(clock::unix_ms(), level, event, message, fields);
    }

    /// Like [`CoreLog::line`], for callers that know the time, in Unix milliseconds.
    pub fn line_at(
        &self,
        now_ms: u64,
        level: Level,
        event: &str,
        message: &str,
        fields: impl FnOnce(&mut Line<'_>),
    ) {
        if !self.is_on(level) {
            return;
        }
        let mut chunk = self.chunk.borrow_mut();
        let mut stamp = self.stamp.borrow_mut();
        if stamp.0 != now_ms {
            *stamp = (now_ms, clock::rfc3339_ms(now_ms));
        }
        write_line(&mut chunk, &stamp.1, level, self.sink.service, event, message, fields);
        self.lines.set(self.lines.get() + 1);
        if chunk.len() >= CHUNK_BYTES {
            self.hand_over(&mut chunk);
        }
    }

    /// Passes the buffered lines to the writer.
    pub fn flush(&self) {
        let mut chunk = self.chunk.borrow_mut();
        if !chunk.is_empty() {
            self.hand_over(&mut chunk);
        }
    }

    fn hand_over(&self, chunk: &mut Vec<u8>) {
        let full = std::mem::replace(chunk, self.sink.recycled());
        self.sink.hand_over(full, self.lines.replace(0));
    }
}

/// The fields of a line under construction.
pub struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// A text field, escaped.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.out.push(b'"');
        escape_json_into(self.out, value);
        self.out.push(b'"');
        self
    }

    /// A number field.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "{value}");
        self
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

fn write_line(
    out: &mut Vec<u8>,
    stamp: &str,
    level: Level,
    service: &str,
    event: &str,
    message: &str,
    fields: impl FnOnce(&mut Line<'_>),
) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(level.name().as_bytes());
    out.push(b'"');
    let mut line = Line { out };
    line.text("message", message).text("service", service).text("event", event);
    fields(&mut line);
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_escapes() {
        let out = Shared::default();
        let (sink, writer) = Sink::start("gateway", Level::Info, out.clone()).expect("thread");
        let log = CoreLog::new(Arc::clone(&sink));
        log.line(Level::Info, "order_queued", "Order \"queued\"", |line| {
            line.text("request_id", "a\\b\nc\u{1}").number("processing_time_ms", 3);
        });
        log.line(Level::Debug, "hidden", "not at this level", |_| {});
        log.flush();
        drop(log);
        sink.flush();
        drop(sink);
        writer.join().expect("the writer ends when the last sink is dropped");
        let text = String::from_utf8(out.0.lock().clone()).expect("utf-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(r#""message":"Order \"queued\"","service":"gateway","event":"order_queued""#),
            "{text}"
        );
        assert!(text.ends_with("\"request_id\":\"a\\\\b\\nc\\u0001\",\"processing_time_ms\":3}\n"), "{text}");
    }

    #[test]
    fn a_slow_sink_drops_and_counts_instead_of_waiting() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = sync_channel(0);
        let (sink, writer) = Sink::start("gateway", Level::Info, Stuck(stuck)).expect("thread");
        for _ in 0..CHUNKS_MAX + 10 {
            sink.line(Level::Warn, "e", "m", |_| {});
        }
        assert!(sink.dropped() >= 9, "{}", sink.dropped());
        assert!(
            !sink.flush_within(Duration::from_millis(20)),
            "a flush must not wait forever when nobody reads the output"
        );
        drop(release);
        drop(sink);
        writer.join().expect("the writer ends");
    }
}
