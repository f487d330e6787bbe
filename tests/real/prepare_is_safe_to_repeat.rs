//! Property: `flash-sale prepare` makes Redis's tables so large that the keys of the sale do not make them grow, whether it runs
//! once, again, or after an interruption; `--undo` leaves none of its keys; and a deployment that it refuses is not changed.

use std::process::{Child, Command, Output, Stdio};

use process::{Process, World};
use testkit::redis::{Redis, Reply};
use testkit::wait_until;

use crate::process::{self, WAIT_MAX};

/// Two keys per order, so 2^18 slots.
const ORDERS: &str = "100000";
const SLOTS: i64 = 1 << 18;

fn command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .arg("prepare")
        .args(args)
        .args(["--redis-addr", &world.redis_addr(), "--kafka-addr", &world.topics.bootstrap])
        .args(["--orders-topic", &world.topics.orders, "--dlq-topic", &world.topics.dlq])
        .args(["--consumer-group", &world.group])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs prepare without the rehearsal, whose topic other tests would share.
fn prepare(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        command(world, &[&["--orders", ORDERS, "--rehearsal", "0s"], args].concat())
            .output()
            .expect("it runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn placeholders(redis: &Redis) -> usize {
    redis.call(&["KEYS", "prepare:*"]).texts().len()
}

/// Slots of both hash tables: their bytes minus those of the entries, divided by 8 bytes per slot.
fn slots(redis: &Redis) -> [i64; 2] {
    let Reply::Array(stats) = redis.call(&["MEMORY", "STATS"]) else { panic!("no MEMORY STATS") };
    let at = stats.iter().position(|name| name.text().as_deref() == Some("db.0")).expect("a database");
    let Reply::Array(pairs) = &stats[at + 1] else { panic!("no db.0") };
    let number = |name: &str| {
        let at = pairs.iter().position(|pair| pair.text().as_deref() == Some(name)).expect("in MEMORY STATS");
        pairs[at + 1].int().expect("a number")
    };
    let keys = redis.call(&["DBSIZE"]).int().expect("a number");
    // All other keys here have a time to live.
    let plain = ["inventory:*", "stock_ledger:*", "fences_since", "prepare:state"]
        .map(|pattern| redis.call(&["KEYS", pattern]).texts().len() as i64);
    let expiring = keys - plain.iter().sum::<i64>();
    [
        (number("overhead.hashtable.main") - 40 * keys) / 8,
        (number("overhead.hashtable.expires") - 24 * expiring) / 8,
    ]
}

/// A deployment whose processor has joined its group.
fn ready() -> (World, Process) {
    let world = World::on(Redis::start());
    let processor = world.start(&[]);
    processor.wait_health(200);
    (world, processor)
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

#[test]
fn tables_fit_the_sale_after_one_or_several_runs() {
    let (world, _processor) = ready();
    let gateway = world.start_gateway(&[]);
    gateway.wait_health(200);
    let redis = world.redis();
    let items = std::env::temp_dir().join(format!("items-{}.txt", std::process::id()));
    std::fs::write(&items, "101 2000\n102,500\n").expect("a file");
    let items = items.display().to_string();

    // Slow enough to be interrupted in the middle.
    let args = ["--orders", ORDERS, "--rehearsal", "0s", "--rate", "20000"];
    let child = command(&world, &args).spawn().expect("it runs");
    wait_until("placeholders are written", WAIT_MAX, || redis.call(&["DBSIZE"]).int() > Some(20_000));
    interrupt(&child);
    let ended = child.wait_with_output().expect("it exits");
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));

    let address = gateway.address();
    let all = ["--items", &items, "--gateway", &address, "--rate", "10000000"];
    let mut kept = 0;
    for run in ["after an interruption", "again"] {
        let (code, output) = prepare(&world, &all);
        assert_eq!(code, Some(0), "{run}: {output}");
        assert!(output.contains("202 after"), "{run}: {output}");
        kept = placeholders(redis);
        assert!((SLOTS / 8..SLOTS / 4).contains(&(kept as i64)), "{run}: {kept}");
        wait_until("rehashing is complete", WAIT_MAX, || slots(redis) == [SLOTS; 2]);
    }
    assert_eq!(redis.call(&["GET", "inventory:102"]).int(), Some(500));
    // The keys of the sale, in addition to the placeholders.
    let script = "for i = 1, 200000 do redis.call('SET', 'order:' .. i, 1, 'EX', 600) end";
    redis.call(&["EVAL", script, "0"]);
    assert_eq!(slots(redis), [SLOTS; 2], "{kept} placeholders, and the keys of the sale");

    let (code, output) = prepare(&world, &["--items", &items, "--json"]);
    assert_eq!(code, Some(0), "{output}");
    let undo = command(&world, &["--undo"]).output().expect("it runs");
    assert_eq!(undo.status.code(), Some(0));
    assert_eq!(placeholders(redis), 0);
}

#[test]
fn refused_deployment_is_not_changed() {
    let (world, processor) = ready();
    let redis = world.redis();
    redis.call(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let (code, output) = prepare(&world, &[]);
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("maxmemory-policy noeviction"), "{output}");
    assert_eq!(placeholders(redis), 0);

    redis.call(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    processor.terminate();
    let (code, output) = prepare(&world, &[]);
    assert_eq!(code, Some(3), "no processor: {output}");
    assert_eq!(placeholders(redis), 0);
}

#[test]
fn stock_of_a_running_sale_is_not_changed() {
    let (world, _processor) = ready();
    let redis = world.redis();
    redis.call(&["SET", "inventory:101", "7"]);
    redis.call(&["HSET", "stock_ledger:{inventory:101}", "base", "10", "taken", "3"]);
    let items = std::env::temp_dir().join(format!("running-{}.txt", std::process::id()));
    std::fs::write(&items, "101 2000\n").expect("a file");
    let (code, output) = prepare(&world, &["--items", &items.display().to_string(), "--rate", "10000000"]);
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("3 units are held or sold"), "{output}");
    assert_eq!(redis.call(&["GET", "inventory:101"]).int(), Some(7));
}
