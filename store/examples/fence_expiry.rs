//! Measures how long Redis is blocked while it frees one bucket of fences, by number of orders. It reads the
//! time of a DEL of the hash from INFO commandstats; the expiry of the hash takes the same time.
//!
//! `cargo run --release -p store --example fence_expiry`; starts a private Redis.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use testkit::redis::{Redis, call};
use wire::resp;

/// Fences per command.
const STEP: usize = 1000;
const BUCKET: &str = "fence:{inventory:101}:7057813440";
/// Other keys, so that memory is as fragmented as in a sale.
const OTHERS: usize = 1_000_000;

fn main() {
    let redis = Redis::start();
    let mut stream = TcpStream::connect(redis.addr()).expect("a connection");
    for from in (0..OTHERS).step_by(STEP) {
        let keys: Vec<String> =
            (from..from + STEP).map(|number| format!("order_status:{number:036}")).collect();
        let mut command: Vec<&[u8]> = vec![b"MSET"];
        command.extend(keys.iter().flat_map(|key| [key.as_bytes(), key.as_bytes()]));
        ask(&mut stream, &command);
    }
    for orders in [5_000, 10_000, 15_000, 30_000, 60_000] {
        let mut times_us: Vec<u64> = (0..7)
            .map(|_| {
                fill(&mut stream, orders);
                call(&redis.addr(), &["CONFIG", "RESETSTAT"]);
                call(&redis.addr(), &["DEL", BUCKET]);
                let stats = call(&redis.addr(), &["INFO", "commandstats"]).text().expect("a text");
                let del = stats.lines().find_map(|line| line.strip_prefix("cmdstat_del:")).expect("DEL ran");
                let usec = del.split(',').find_map(|field| field.strip_prefix("usec=")).expect("its time");
                usec.parse().expect("a number")
            })
            .collect();
        times_us.sort_unstable();
        let (median_us, most_us) = (times_us[times_us.len() / 2], times_us[times_us.len() - 1]);
        println!("{orders:>6} orders: median {:.2} ms, most {:.2} ms", ms(median_us), ms(most_us));
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Fills the bucket, and writes other keys in between, as a processor writes statuses.
fn fill(stream: &mut TcpStream, orders: usize) {
    for from in (0..orders).step_by(STEP) {
        let ids: Vec<String> = (from..from + STEP).map(|number| format!("{number:036}")).collect();
        let mut command: Vec<&[u8]> = vec![b"HSET", BUCKET.as_bytes()];
        command.extend(ids.iter().flat_map(|id| [id.as_bytes(), b"C"]));
        ask(stream, &command);
        let statuses: Vec<String> = ids.iter().map(|id| format!("order_status:{id}")).collect();
        let mut command: Vec<&[u8]> = vec![b"MSET"];
        command.extend(statuses.iter().flat_map(|key| [key.as_bytes(), key.as_bytes()]));
        ask(stream, &command);
    }
}

/// Sends a command that has a one-line reply.
fn ask(stream: &mut TcpStream, command: &[&[u8]]) {
    let mut out = Vec::new();
    resp::write_command(&mut out, command);
    stream.write_all(&out).expect("an open socket");
    let mut reply = [0; 64];
    let len = stream.read(&mut reply).expect("an open socket");
    assert!(len > 0 && reply[0] != b'-', "{}", String::from_utf8_lossy(&reply[..len]));
}
