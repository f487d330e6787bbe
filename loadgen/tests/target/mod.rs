//! A gateway and processor in one, on the embedded store: correct unless a test makes it violate a rule. Uses
//! threads and blocking sockets, so that it shares nothing with the code under test.
#![allow(dead_code, reason = "each test uses a part of this module")]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use audit::{AuditSource, Item};
use loadgen::Plan;
use loadgen::progress::Quiet;
use report::Report;
use report::{Check, CheckState};
use store::Policy;
use store::answer::{Admission, Answer, Reservation};
use store::command::{Admit, Command, FinalStatus, Origin, Reserve, Settle};
use store::memory::Memory;
use wire::names::Status;

/// An order as it arrived.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Order {
    pub(crate) user_id: String,
    pub(crate) item_id: String,
    pub(crate) amount: u32,
    pub(crate) request_id: String,
    /// Number of orders that arrived before this one.
    #[serde(skip)]
    pub(crate) number: u64,
}

/// How the target handles an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// As the contract requires.
    Honest,
    /// Payment fails: units are returned, status `FAILED_PAYMENT`.
    Unpaid,
    /// 202, and the order stays PENDING.
    Forget,
    /// Correct, but no counter is incremented.
    Uncounted,
    /// Responds with this status, without any effect.
    Say(u16),
    /// Processes the order correctly, then responds with this status.
    DoButSay(u16),
    /// Closes the connection without a response and without an effect.
    HangUp,
    /// Never responds.
    Silence,
    /// Correct, but this much later; the connection waits.
    Late(Duration),
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    successful: AtomicU64,
    failed: AtomicU64,
    validation_failed: AtomicU64,
    idempotency_rejected: AtomicU64,
    rate_limited: AtomicU64,
    sold_out: AtomicU64,
}

type Rule = Box<dyn Fn(&Memory, &Order) -> Conduct + Send + Sync>;

struct Inner {
    memory: Arc<Memory>,
    rule: Rule,
    counters: Counters,
    is_over: AtomicBool,
}

/// The target; listens until it is dropped.
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) memory: Arc<Memory>,
    inner: Arc<Inner>,
}

pub(crate) fn memory() -> Arc<Memory> {
    let policy = Policy {
        rate_limit_max_requests: 60,
        rate_limit_window_ms: 60_000,
        order_status_ttl_ms: 86_400_000,
        takeover_after_ms: 2_000,
    };
    Memory::new(policy, 1_000_000)
}

impl Target {
    pub(crate) fn start(rule: impl Fn(&Memory, &Order) -> Conduct + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let memory = memory();
        let inner = Arc::new(Inner {
            memory: Arc::clone(&memory),
            rule: Box::new(rule),
            counters: Counters::default(),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        Self { addr, memory, inner }
    }

    pub(crate) fn honest() -> Self {
        Self::start(|_, _| Conduct::Honest)
    }

    pub(crate) fn audit(&self) -> AuditSource {
        AuditSource::memory(Arc::clone(&self.memory))
    }

    /// Number of orders that arrived.
    pub(crate) fn received(&self) -> u64 {
        self.inner.counters.received.load(Ordering::Relaxed)
    }

    /// A small sale: 300 buyers at 3,000/s for 100 units.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::new(self.addr);
        plan.buyers = 300;
        plan.rate_per_s = 3_000;
        plan.connections = 16;
        plan.items = vec![Item { id: "101".to_owned(), stock: 100 }];
        plan.drain_timeout = Duration::from_millis(500);
        // These tests do not judge the generator, which may be late on a busy test machine.
        plan.thresholds.lateness_p99_ms_max = None;
        plan.thresholds.offered_share_min = None;
        plan.thresholds.busy_share_max = None;
        plan
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.addr));
    }
}

/// Adds units outside the ledger, like a plain `SET` of the key.
pub(crate) fn add_units_outside_the_ledger(memory: &Memory, item_id: &str, units: i64) {
    let Ok(Answer::Stock(left)) = memory.apply(&Command::Stock { items: &[item_id] }) else {
        panic!("the embedded store knows the stock");
    };
    let more = (left[0].expect("a known item") + units).to_string();
    memory.set_inventory_text(item_id, Some(&more)).expect("there is room");
}

/// Runs a plan without progress output and without interrupts.
pub(crate) fn run(plan: &Plan, audit: &AuditSource) -> Report {
    loadgen::run(plan, audit, Quiet, &Arc::new(AtomicBool::new(false))).expect("a run that can be run")
}

/// The check of this name.
pub(crate) fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    let found = report.checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no check {name} in {:#?}", report.checks))
}

/// Names of the checks that failed.
pub(crate) fn failed(report: &Report) -> Vec<&str> {
    let is_failed = |check: &&Check| check.state == CheckState::Fail;
    report.checks.iter().filter(is_failed).map(|check| check.name.as_str()).collect()
}

fn serve(inner: &Inner, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        while let Some((head, body, end)) = request(&bytes) {
            let answer = answer(inner, &head, &body);
            bytes.drain(..end);
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes())?,
                None => return Ok(()),
            }
            if head.contains("HTTP/1.0") {
                return Ok(());
            }
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}

fn request(bytes: &[u8]) -> Option<(String, Vec<u8>, usize)> {
    let text = String::from_utf8_lossy(bytes);
    let head_end = text.find("\r\n\r\n")? + 4;
    let head = text[..head_end].to_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |digits| digits.trim().parse::<usize>().expect("a length in digits"));
    let body = bytes.get(head_end..head_end + length)?.to_vec();
    Some((head, body, head_end + length))
}

/// The response; `None` closes the connection.
fn answer(inner: &Inner, head: &str, body: &[u8]) -> Option<String> {
    let mut words = head.split_ascii_whitespace();
    let (method, path) = (words.next()?, words.next()?);
    match (method, path) {
        ("POST", "/buy") => {
            let mut order: Order =
                serde_json::from_slice(body).expect("our own generator sends valid orders");
            order.number = inner.counters.received.fetch_add(1, Ordering::Relaxed);
            let status = buy(inner, &order)?;
            Some(http(status, "{}"))
        }
        ("GET", "/metrics") => Some(http(200, &metrics(&inner.counters))),
        ("GET", path) => {
            let request_id = path.strip_prefix("/orders/")?;
            match inner.memory.apply(&Command::Status { request_id }) {
                Ok(Answer::Status(Some(view))) => Some(http(
                    200,
                    &format!("{{\"request_id\":\"{request_id}\",\"status\":\"{}\"}}", view.status),
                )),
                _ => Some(http(404, "{}")),
            }
        }
        _ => Some(http(405, "{}")),
    }
}

fn buy(inner: &Inner, order: &Order) -> Option<u16> {
    let counters = &inner.counters;
    let conduct = (inner.rule)(&inner.memory, order);
    let status = match conduct {
        Conduct::Uncounted => return Some(sell(&inner.memory, order, false)),
        Conduct::Honest | Conduct::Unpaid => sell(&inner.memory, order, conduct == Conduct::Unpaid),
        Conduct::DoButSay(status) => {
            sell(&inner.memory, order, false);
            status
        }
        Conduct::Late(wait) => {
            thread::sleep(wait);
            sell(&inner.memory, order, false)
        }
        Conduct::Forget => {
            admit(&inner.memory, order);
            202
        }
        Conduct::Say(status) => status,
        Conduct::HangUp => return None,
        Conduct::Silence => loop {
            if inner.is_over.load(Ordering::Relaxed) {
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        },
    };
    let counter = match status {
        202 => &counters.successful,
        400 => &counters.validation_failed,
        409 | 422 => &counters.idempotency_rejected,
        429 => &counters.rate_limited,
        410 => &counters.sold_out,
        _ => &counters.failed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Some(status)
}

fn admit(memory: &Memory, order: &Order) -> Admission {
    let admit = Admit {
        user_id: &order.user_id,
        request_id: &order.request_id,
        fingerprint: wire::order::fingerprint(&order.user_id, &order.item_id, order.amount),
        correlation_id: "c",
        owner: "test",
        sequence: order.number + 1,
        accepted_at_ms: 0,
    };
    match memory.apply(&Command::Admit(admit)) {
        Ok(Answer::Admitted(admission)) => admission,
        other => panic!("admit: {other:?}"),
    }
}

fn sell(memory: &Memory, order: &Order, is_unpaid: bool) -> u16 {
    match admit(memory, order) {
        Admission::Fresh | Admission::TakenOver { .. } => {}
        Admission::Duplicate { .. } => return 409,
        Admission::Mismatch => return 422,
        Admission::Limited { .. } => return 429,
    }
    let origin = Origin { partition: 0, offset: order.number as i64 };
    let reserve = Reserve {
        request_id: &order.request_id,
        item_id: &order.item_id,
        accepted_at_ms: 0,
        amount: order.amount,
        attempt: 0,
        origin,
    };
    let Ok(Answer::Reserved(reservation)) = memory.apply(&Command::Reserve(reserve)) else { return 500 };
    let status = match reservation {
        Reservation::Held { .. } => {
            let settle = Settle {
                request_id: &order.request_id,
                item_id: &order.item_id,
                accepted_at_ms: 0,
                attempt: 0,
                origin,
            };
            let command = if is_unpaid { Command::Refund(settle) } else { Command::Settle(settle) };
            memory.apply(&command).expect("a held order can be ended");
            if is_unpaid { Status::FailedPayment } else { Status::Completed }
        }
        Reservation::UnknownItem => Status::FailedUnknownItem,
        _ => Status::FailedSoldOut,
    };
    let status = FinalStatus {
        request_id: &order.request_id,
        status,
        attempt: 0,
        fingerprint: wire::order::fingerprint(&order.user_id, &order.item_id, order.amount),
        correlation_id: "c",
        accepted_at_ms: 0,
    };
    memory.apply(&Command::WriteStatus(status)).expect("room for the status of a pending order");
    202
}

fn http(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn metrics(counters: &Counters) -> String {
    let rows = [
        ("gateway_orders_received_total", &counters.received),
        ("gateway_orders_successful_total", &counters.successful),
        ("gateway_orders_failed_total", &counters.failed),
        ("gateway_orders_validation_failed_total", &counters.validation_failed),
        ("gateway_orders_idempotency_rejected_total", &counters.idempotency_rejected),
        ("gateway_rate_limited_total", &counters.rate_limited),
        ("gateway_sold_out_total", &counters.sold_out),
    ];
    let mut page = String::from("gateway_shed_total 0\ngateway_circuit_breaker_state 0\n");
    for (name, counter) in rows {
        let value = counter.load(Ordering::Relaxed);
        let _ = writeln!(page, "# TYPE {name} counter\n{name} {value}");
    }
    page
}
