//! The load generator's own `/metrics` during a run, for dashboards next to those of the target.
//!
//! One thread serves one connection at a time, each for at most a second, which bounds what a slow reader
//! costs the generator. Each core writes its own cells; there are no locks.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use report::{OUTCOMES, Outcome, Record};
use shard::cells::{Cells, PAGE_CONTENT_TYPE, Page};

use crate::plan::Plan;

/// Poll interval for the next connection and for the stop flag.
const POLL: Duration = Duration::from_millis(20);
/// Timeout of one connection.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest request head.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The counters of the outcomes come first, indexed by outcome.
const SENT: usize = OUTCOMES;
const RECONNECTS: usize = OUTCOMES + 1;
const IN_FLIGHT: usize = 0;
const WAITING_US: usize = 1;
const LATENCY: usize = 0;
const LATENESS: usize = 1;

/// The values on the page.
#[derive(Debug)]
pub(crate) struct RunCells {
    cores: Vec<Cells<{ OUTCOMES + 2 }, 2, 2>>,
    start: OnceLock<Instant>,
    /// 0 in a closed loop.
    asked_per_s: f64,
    run: String,
}

impl RunCells {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            cores: std::iter::repeat_with(Cells::default).take(plan.workers).collect(),
            start: OnceLock::new(),
            asked_per_s: if plan.closed { 0.0 } else { plan.rate_per_s as f64 },
            run: plan.run_id.clone(),
        }
    }

    /// Sets the time of the first arrival.
    pub(crate) fn starts_at(&self, start: Instant) {
        // Set once, by the load driver.
        let _ = self.start.set(start);
    }

    /// This core sent a request.
    pub(crate) fn sent(&self, core: usize, lateness_ns: u64) {
        self.cores[core].durations[LATENESS].observe_us(lateness_ns / 1_000);
        self.cores[core].counters[SENT].add(1);
    }

    /// A request of this core got its response this long after its intended time.
    pub(crate) fn answered(&self, core: usize, latency_ns: u64) {
        self.cores[core].durations[LATENCY].observe_us(latency_ns / 1_000);
    }

    /// Updates the values of a core; called at every sweep.
    pub(crate) fn publish(&self, core: usize, record: &Record, in_flight: u64, waiting_ns: u64) {
        let cells = &self.cores[core];
        for (cell, &count) in cells.counters.iter().zip(&record.counts) {
            cell.set(count);
        }
        cells.counters[RECONNECTS].set(record.reconnects);
        cells.gauges[IN_FLIGHT].set(in_flight);
        cells.gauges[WAITING_US].set(waiting_ns / 1_000);
    }

    fn page(&self) -> Result<String, String> {
        let counted =
            |counter: usize| self.cores.iter().map(|core| core.counters[counter].get()).sum::<u64>();
        let gauged = |gauge: usize| self.cores.iter().map(move |core| core.gauges[gauge].get());
        let elapsed_s = self
            .start
            .get()
            .map_or(0.0, |&start| Instant::now().saturating_duration_since(start).as_secs_f64());
        let mut page = Page::default();
        let names = Outcome::ALL.map(|outcome| [("outcome", outcome.name())]);
        let lines: Vec<(&[(&str, &str)], u64)> =
            names.iter().zip(0..).map(|(labels, outcome)| (&labels[..], counted(outcome))).collect();
        page.labelled_counter("loadgen_requests_total", "Finished requests by outcome.", &lines);
        page.counter("loadgen_requests_sent_total", "Requests sent.", counted(SENT));
        page.counter("loadgen_reconnects_total", "Reconnects.", counted(RECONNECTS));
        page.gauge("loadgen_in_flight", "Requests in flight.", gauged(IN_FLIGHT).sum::<u64>() as f64);
        page.gauge(
            "loadgen_connection_wait_seconds",
            "Wait time of the arrival that has waited longest for a connection, in seconds.",
            gauged(WAITING_US).max().unwrap_or(0) as f64 / 1e6,
        );
        page.durations(
            "loadgen_latency_seconds",
            "Time from the intended send of a request to its response.",
            self.cores.iter().map(|core| &core.durations[LATENCY]),
        );
        page.durations(
            "loadgen_lateness_seconds",
            "Delay between the intended time of a request and the time when the generator processed it.",
            self.cores.iter().map(|core| &core.durations[LATENESS]),
        );
        let rate = if elapsed_s > 0.0 { counted(SENT) as f64 / elapsed_s } else { 0.0 };
        page.gauge(
            "loadgen_asked_rate",
            "Target rate of the plan in requests per second; 0 in closed-loop mode.",
            self.asked_per_s,
        );
        page.gauge("loadgen_offered_rate", "Requests sent per second since the first arrival.", rate);
        page.gauge("loadgen_elapsed_seconds", "Seconds since the first arrival.", elapsed_s);
        page.labelled_gauge("loadgen_run_info", "Id of this run.", &[(&[("run", &self.run)], 1.0)]);
        page.encode().map_err(|error| error.to_string())
    }
}

/// The endpoint; serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Endpoint {
    /// Binds the address and starts the thread.
    pub(crate) fn begin(address: SocketAddr, cells: Arc<RunCells>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let serve = move || {
            // Relaxed: the flag guards no other data.
            while !seen.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that does not read its response in time gets none.
                    Ok((stream, _)) => drop(answer(stream, &cells)),
                    Err(_) => thread::sleep(POLL),
                }
            }
        };
        let thread = thread::Builder::new().name("loadgen-metrics".to_owned()).spawn(serve)?;
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream, cells: &RunCells) -> io::Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WAIT_MAX))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&chunk[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match (method, path.split('?').next().unwrap_or_default()) {
        ("GET", "/metrics") => match cells.page() {
            Ok(page) => ("200 OK", page),
            Err(reason) => ("500 Internal Server Error", reason),
        },
        ("GET", _) => ("404 Not Found", "only /metrics exists here\n".to_owned()),
        _ => ("405 Method Not Allowed\r\nAllow: GET", "only GET /metrics is supported\n".to_owned()),
    };
    let kind = if status.starts_with("200") { PAGE_CONTENT_TYPE } else { "text/plain; charset=utf-8" };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes())
}
