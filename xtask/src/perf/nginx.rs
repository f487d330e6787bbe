//! A rival without a line of Rust: nginx, Debian's Lua module and Debian's Lua clients for Redis and Kafka, configured in
//! `perf/rivals/nginx`.
//!
//! It promises less than the others, and every figure of it has to say so: 202 leaves before the broker has the order, and the
//! record has no headers. Its Kafka client asks in versions that Kafka 4.0 removed, so it gets a stage of its own with the last
//! series that still answers them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::free_port;
use testkit::http::Client;

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Load};
use crate::services::{Programs, apt, kafka_home};
use crate::step::{self, Result};
use crate::workspace;

/// How its figures are called, with what they are not equal in.
pub(crate) const WHO: &str = "nginx + Lua (202 before the broker)";
/// The last series before the one that dropped what the Lua client speaks (KIP-896).
const KAFKA: &str = "3.9.1";
/// As many as a gateway makes for its orders.
const PARTITIONS: &str = "16";
/// What it is made of, as (file, package).
const PARTS: [(&str, &str); 5] = [
    (NGINX, "nginx"),
    ("/usr/lib/nginx/modules/ngx_http_lua_module.so", "libnginx-mod-http-lua"),
    ("/usr/share/lua/5.1/cjson/util.lua", "lua-cjson"),
    ("/usr/share/lua/5.1/nginx/redis.lua", "lua-nginx-redis"),
    ("/usr/share/lua/5.1/nginx/kafka/producer.lua", "lua-nginx-kafka"),
];
const NGINX: &str = "/usr/sbin/nginx";
/// The rules of the script `perf/rivals/admit.lua`, at the gateway's defaults.
const CONSTANTS: &str = "local LIMIT = 60\nlocal WINDOW_MS = 60000\nlocal WINDOW_TTL = '60000'\n\
    local ORDER_STATUS_TTL = '86400000'\nlocal TAKEOVER_AFTER_MS = 2500\n";

/// It runs beside no other contestant: two brokers would share the cores. Drop the stage when it is measured.
pub(crate) fn on_a_stage_of_its_own(topic: &str) -> Result<(Stage, Actor)> {
    let stage = stage()?;
    let actor = rival(&stage, topic)?;
    Ok((stage, actor))
}

/// A Redis as everybody's, and the older Kafka.
fn stage() -> Result<Stage> {
    Stage::set_with(&Programs {
        redis_server: apt::program("redis-server", "redis-server")?,
        kafka_home: kafka_home::obtain_version(KAFKA)?,
    })
}

/// Starts it on a stage made by [`stage`], on a topic of its own.
pub(crate) fn rival(stage: &Stage, topic: &str) -> Result<Actor> {
    for (file, package) in PARTS {
        apt::file(file, package)?;
    }
    create_topic(stage, topic)?;
    let address = format!("127.0.0.1:{}", free_port());
    let dir = stage.dir().join(format!("nginx-{topic}"));
    write(&dir, &address, stage, topic)?;
    let mut command = Command::new(NGINX);
    // `-e`: until it has read its configuration it would log to Debian's own folder, which is not everybody's.
    command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    let mut actor = stage.launch("nginx", address, command)?;
    actor.wait_open()?;
    actor.wait_healthy()?;
    Ok(actor)
}

/// By Kafka's own tool: a topic that the broker makes by itself has one partition.
fn create_topic(stage: &Stage, topic: &str) -> Result<()> {
    let libs = kafka_home::obtain_version(KAFKA)?.join("libs/*");
    let java = match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => "java".into(),
    };
    let mut command = Command::new(java);
    command
        .args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
        .arg(libs)
        .args(["org.apache.kafka.tools.TopicCommand", "--create", "--topic", topic])
        .args(["--partitions", PARTITIONS, "--bootstrap-server", &stage.kafka.addr()])
        .stdout(std::io::stderr());
    step::timed("create its topic", || step::run(command))
}

/// What nginx reads, and the folder it writes into.
fn write(dir: &Path, address: &str, stage: &Stage, topic: &str) -> Result<()> {
    let source = workspace::root().join("perf/rivals/nginx");
    let read = |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let (redis, kafka) = (stage.redis.addr(), stage.kafka.addr());
    let split = |address: &str| {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("no port in {address}"))?;
        Ok::<_, String>((host.to_owned(), port.to_owned()))
    };
    let ((redis_host, redis_port), (kafka_host, kafka_port)) = (split(&redis)?, split(&kafka)?);
    let mut config = read(&source.join("nginx.conf"))?;
    for (word, value) in [
        ("@DIR@", dir.display().to_string().as_str()),
        ("@LISTEN@", address),
        ("@REDIS_HOST@", &redis_host),
        ("@REDIS_PORT@", &redis_port),
        ("@KAFKA_HOST@", &kafka_host),
        ("@KAFKA_PORT@", &kafka_port),
        ("@TOPIC@", topic),
    ] {
        config = config.replace(word, value);
    }
    let script = format!("{CONSTANTS}{}", read(&workspace::root().join("perf/rivals/admit.lua"))?);
    let order = read(&source.join("order.lua"))?;
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for (name, text) in [("nginx.conf", config), ("order.lua", order), ("admit.lua", script)] {
        fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// The rival alone.
pub(super) fn run(options: &Options) -> Result<()> {
    let seconds = options.seconds;
    let topic = "orders";
    let (stage, actor) = on_a_stage_of_its_own(topic)?;
    follow_one(&stage, &actor, topic)?;
    let pids = [actor.pid(), stage.redis.pid().unwrap_or(0), stage.kafka.pid().unwrap_or(0)];
    for (run, connections) in [("w", 256), ("a", 64), ("b", 256), ("c", 1024)] {
        let before = pids.map(cpu::family_seconds);
        let hits = wrk::fire(&Load { address: &actor.address, run, item: "sale", connections, seconds })?;
        let after = pids.map(cpu::family_seconds);
        let per_order = |at: usize| (after[at] - before[at]) * 1e6 / hits.requests as f64;
        step::say(format_args!(
            "{WHO}, {connections} connections: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms; CPU an order: \
             nginx {:.2}, Redis {:.2}, Kafka {KAFKA} {:.2} µs; {} refused or broken",
            hits.rate(),
            hits.p50_us as f64 / 1e3,
            hits.p99_us as f64 / 1e3,
            per_order(0),
            per_order(1),
            per_order(2),
            hits.refused + hits.broken
        ));
    }
    audit(&stage, topic)?;
    let end = actor.end()?;
    step::say(format_args!("nginx ended with {end}"));
    Ok(())
}

/// Whether what was admitted has come to the broker in the end: the orders of every run are new, so each left two keys.
fn audit(stage: &Stage, topic: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        // Asked again each time: what was under way when wrk hung up is still admitted.
        let admitted = stage.redis.call(&["DBSIZE"]).int().unwrap_or(0) / 2;
        let mut command = Command::new(apt::program("kcat", "kcat")?);
        command.args(["-b", &stage.kafka.addr(), "-C", "-t", topic, "-e", "-q", "-f", "%p\n"]);
        let records = step::capture(command, Duration::from_mins(1))?.lines().count() as i64;
        if records == admitted || begun.elapsed() > Duration::from_secs(10) {
            let found = format!("{admitted} orders admitted, {records} records in Kafka");
            step::say(format_args!("{found}"));
            return expect("as many records as orders", records == admitted, &found);
        }
        step::pause()?;
    }
}

/// One order through everything: what the buyer, Redis and Kafka have of it.
fn follow_one(stage: &Stage, actor: &Actor, topic: &str) -> Result<()> {
    let order = r#"{"user_id":"u-1","item_id":"sale","amount":2,"request_id":"followed"}"#;
    let mut client = Client::connect(&actor.address);
    let mut ask = |order: &str| {
        let answer = client.post_buy(order, &[("x-correlation-id", "followed-1")]);
        (answer.status, answer.text().to_owned())
    };
    let (status, text) = ask(order);
    expect("202", status == 202 && text.contains(r#""correlation_id":"followed-1""#), &text)?;
    for (what, order, wanted) in [
        ("409 for a second one", order.to_owned(), 409),
        ("422 for other contents", order.replace("\"amount\":2", "\"amount\":3"), 422),
        ("400 for no item", order.replace("sale", ""), 400),
        ("400 for no JSON", "{".to_owned(), 400),
    ] {
        let (status, text) = ask(&order);
        expect(what, status == wanted, &text)?;
    }
    let stored = stage.redis.call(&["GET", "order_status:followed"]).text().unwrap_or_default();
    expect("the id in Redis", stored.contains(" followed-1\n"), &stored)?;
    let begun = Instant::now();
    let record = loop {
        let mut command = Command::new(apt::program("kcat", "kcat")?);
        command.args(["-b", &stage.kafka.addr(), "-C", "-t", topic, "-e", "-q", "-f", "%k %T %s\n"]);
        let records = step::capture(command, Duration::from_secs(30))?;
        if !records.is_empty() || begun.elapsed() > Duration::from_secs(10) {
            break records;
        }
        step::pause()?;
    };
    let is_it = record.lines().count() == 1
        && record.starts_with("u-1 ")
        && ["\"request_id\":\"followed\"", "\"amount\":2", "\"correlation_id\":\"followed-1\""]
            .iter()
            .all(|part| record.contains(part));
    expect("one record in Kafka", is_it, &record)?;
    step::say(format_args!("an order of nginx + Lua is in Redis as {stored:?} and in Kafka as {record:?}"));
    Ok(())
}

fn expect(what: &str, holds: bool, found: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(format!("nginx + Lua: wanted {what}, found {found:?}").into()) }
}
