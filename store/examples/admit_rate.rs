//! Measures the cost of an order in µs of Redis CPU time (INFO cpu before and after): `admit`, `reserve` +
//! `settle`, and for comparison the minimum cost of a limit and an id, INCR + SET NX EX.
//!
//! `cargo run --release -p store --example admit_rate [orders] [in flight]`; starts a private Redis, or uses
//! `REDIS_ADDR`. Each order has a different buyer, as in a sale.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use store::redis::{Connection, ConnectionSettings, Server};
use store::{
    Admission, Admit, Answer, Command, FinalStatus, Origin, Policy, Reservation, Reserve, Settle, Store,
};
use testkit::redis::{Redis, call};
use wire::names::Status;
use wire::resp;

const POLICY: Policy = Policy {
    rate_limit_max_requests: 60,
    rate_limit_window_ms: 60_000,
    order_status_ttl_ms: 86_400_000,
    takeover_after_ms: 2500,
};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a whole number"));
    let orders: u64 = arguments.next().unwrap_or(200_000);
    let in_flight: u64 = arguments.next().unwrap_or(64);
    let own = if std::env::var_os("REDIS_ADDR").is_none() { Some(Redis::start()) } else { None };
    let addr = own.as_ref().map_or_else(testkit::redis::shared_addr, Redis::addr);
    let measure = |name: &str, steps: &mut dyn FnMut()| {
        call(&addr, &["FLUSHALL"]);
        call(&addr, &["SET", "inventory:101", "1000000000"]);
        let (cpu_before, begun) = (cpu_us(&addr), Instant::now());
        steps();
        let (cpu_us, elapsed) = (cpu_us(&addr) - cpu_before, begun.elapsed());
        let per_s = orders as f64 / elapsed.as_secs_f64();
        println!("{name:<34} {:>6.2} µs of Redis per order, {per_s:>8.0} orders/s", cpu_us / orders as f64);
    };

    println!("{orders} orders, {in_flight} in flight, {addr}");
    measure("INCR + SET NX EX, pipelined", &mut || plain(&addr, orders, in_flight));
    for users in [orders, 1000] {
        measure(&format!("admit, {users} buyers"), &mut || {
            drive(&addr, orders, in_flight, users, Case::Admit);
        });
    }
    measure("admit again (409)", &mut || {
        drive(&addr, orders / 2, in_flight, orders, Case::Admit);
        drive(&addr, orders / 2, in_flight, orders, Case::AdmitAgain);
    });
    measure("admit + reserve + settle", &mut || drive(&addr, orders, in_flight, orders, Case::Whole));
    measure("admit + reserve + refund", &mut || drive(&addr, orders, in_flight, orders, Case::Refunded));
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Admit,
    AdmitAgain,
    Whole,
    Refunded,
}

/// Runs orders through a connection on this thread.
fn drive(addr: &str, orders: u64, in_flight: u64, users: u64, case: Case) {
    let (host, port) = addr.split_once(':').expect("host:port");
    let server = Server {
        host: host.to_owned(),
        port: port.parse().expect("a port"),
        user: None,
        password: None,
        db: 0,
    };
    let body = |_| async move {
        let connection = Connection::open(ConnectionSettings::new(server, POLICY, 4096));
        assert!(connection.reachable_within(Duration::from_secs(5)).await, "{:?}", connection.last_error());
        let next = Rc::new(Cell::new(0));
        let workers: Vec<_> = (0..in_flight)
            .map(|_| monoio::spawn(work(Rc::clone(&connection), Rc::clone(&next), orders, users, case)))
            .collect();
        for worker in workers {
            worker.await;
        }
        let stats = connection.stats();
        eprintln!("  {:.1} commands per flush", stats.commands as f64 / stats.flushes as f64);
    };
    shard::launch::run(0, None, body).expect("a runtime");
}

async fn work(connection: Rc<Connection>, next: Rc<Cell<u64>>, orders: u64, users: u64, case: Case) {
    loop {
        let number = next.replace(next.get() + 1);
        if number >= orders {
            return;
        }
        // 60,000 orders/s.
        let accepted_at_ms = 1_764_453_360_000 + number / 60;
        let user_id = format!("user-{}", number % users);
        let request_id = format!("0190f1a2-7b3c-4d5e-8f60-{number:012}");
        let admit = Admit {
            user_id: &user_id,
            request_id: &request_id,
            fingerprint: number,
            correlation_id: &request_id,
            owner: "g1c0e1764453360",
            sequence: number + 1,
            accepted_at_ms,
        };
        let admitted = connection.ask(&Command::Admit(admit)).await;
        if case == Case::AdmitAgain {
            assert!(matches!(admitted, Ok(Answer::Admitted(Admission::Duplicate { .. }))), "{admitted:?}");
            continue;
        }
        // With few buyers, some orders exceed the rate limit; their cost is part of the measurement.
        if users == orders {
            assert_eq!(admitted, Ok(Answer::Admitted(Admission::Fresh)));
        }
        if case == Case::Admit {
            continue;
        }
        let origin = Origin { partition: (number % 16) as i32, offset: number as i64 };
        let (request_id, item_id) = (request_id.as_str(), "101");
        let request = Reserve { request_id, item_id, accepted_at_ms, amount: 1, attempt: 0, origin };
        let reserved = connection.ask(&Command::Reserve(request)).await;
        assert!(matches!(reserved, Ok(Answer::Reserved(Reservation::Held { .. }))), "{reserved:?}");
        let settle = Settle { request_id, item_id, accepted_at_ms, attempt: 0, origin };
        let is_paid = case == Case::Whole;
        let end = if is_paid { Command::Settle(settle) } else { Command::Refund(settle) };
        assert!(matches!(connection.ask(&end).await, Ok(Answer::Settled(settlement)) if settlement.applied));
        let status = FinalStatus {
            request_id,
            status: if is_paid { Status::Completed } else { Status::FailedPayment },
            attempt: 0,
            fingerprint: number,
            correlation_id: request_id,
            accepted_at_ms,
        };
        assert_eq!(connection.ask(&Command::WriteStatus(status)).await, Ok(Answer::Done));
    }
}

/// Two commands per order, `in_flight` orders per flush, over a blocking socket.
fn plain(addr: &str, orders: u64, in_flight: u64) {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    stream.set_nodelay(true).expect("an open socket");
    let (mut out, mut buffer) = (Vec::new(), Vec::new());
    let mut chunk = vec![0; 64 * 1024];
    let mut sent = 0;
    while sent < orders {
        out.clear();
        let turn = in_flight.min(orders - sent);
        for number in sent..sent + turn {
            let user = format!("ratelimit:user-{number}");
            let id = format!("idempotency:0190f1a2-7b3c-4d5e-8f60-{number:012}");
            resp::write_command(&mut out, &[b"INCR", user.as_bytes()]);
            resp::write_command(&mut out, &[b"SET", id.as_bytes(), id.as_bytes(), b"NX", b"EX", b"600"]);
        }
        sent += turn;
        stream.write_all(&out).expect("an open socket");
        let mut replies = 0;
        while replies < 2 * turn {
            let filled = stream.read(&mut chunk).expect("an open socket");
            assert!(filled > 0, "the server closed the connection");
            buffer.extend_from_slice(&chunk[..filled]);
            while let Some((_, consumed)) = resp::parse(&buffer).expect("replies") {
                buffer.drain(..consumed);
                replies += 1;
            }
        }
    }
}

fn cpu_us(addr: &str) -> f64 {
    let info = call(addr, &["INFO", "cpu"]).text().expect("a text");
    let seconds = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("Redis names its CPU time");
        line.trim().parse().expect("seconds")
    };
    (seconds("used_cpu_user:") + seconds("used_cpu_sys:")) * 1e6
}
