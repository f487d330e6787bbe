//! A rival without Rust: nginx, Debian's Lua module and Debian's Lua clients for Redis and Kafka, configured in
//! `perf/rivals/nginx`.
//!
//! It guarantees less than the others, and every figure of it must be labelled so: 202 is sent before the broker has the
//! order, and the record has no headers. Its Kafka client uses protocol versions that Kafka 4.0 removed, so it runs on a
//! separate stage with the last Kafka series that supports them.

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

/// Label of its figures, with the weaker guarantee.
pub(crate) const WHO: &str = "nginx + Lua (202 before the broker)";
/// The last series that supports the Lua client's protocol versions; 4.0 removed them (KIP-896).
const KAFKA: &str = "3.9.1";
/// The default number of partitions of the gateway.
const PARTITIONS: &str = "16";
/// Required files, as (file, Debian package).
const PARTS: [(&str, &str); 5] = [
    (NGINX, "nginx"),
    ("/usr/lib/nginx/modules/ngx_http_lua_module.so", "libnginx-mod-http-lua"),
    ("/usr/share/lua/5.1/cjson/util.lua", "lua-cjson"),
    ("/usr/share/lua/5.1/nginx/redis.lua", "lua-nginx-redis"),
    ("/usr/share/lua/5.1/nginx/kafka/producer.lua", "lua-nginx-kafka"),
];
const NGINX: &str = "/usr/sbin/nginx";
/// Constants of the script `perf/rivals/admit.lua`, with the gateway's defaults.
const CONSTANTS: &str = "local LIMIT = 60\nlocal WINDOW_MS = 60000\nlocal WINDOW_TTL = '60000'\n\
    local ORDER_STATUS_TTL = '86400000'\nlocal TAKEOVER_AFTER_MS = 2500\n";

/// Starts the rival on a separate stage. No other candidate may run at the same time, because two brokers would share the
/// cores. Drop the stage after the measurement.
pub(crate) fn start_separately(topic: &str) -> Result<(Stage, Actor)> {
    let stage = stage()?;
    let actor = rival(&stage, topic)?;
    Ok((stage, actor))
}

/// The same Redis as for the other candidates, and the older Kafka.
fn stage() -> Result<Stage> {
    Stage::set_with(&Programs {
        redis_server: apt::program("redis-server", "redis-server")?,
        kafka_home: kafka_home::obtain_version(KAFKA)?,
    })
}

/// Starts the rival with this topic on a stage made by [`stage`].
pub(crate) fn rival(stage: &Stage, topic: &str) -> Result<Actor> {
    for (file, package) in PARTS {
        apt::file(file, package)?;
    }
    create_topic(stage, topic)?;
    let address = format!("127.0.0.1:{}", free_port());
    let dir = stage.dir().join(format!("nginx-{topic}"));
    write_config(&dir, &address, stage, topic)?;
    let mut command = Command::new(NGINX);
    // `-e`: until nginx has read its configuration it logs to Debian's default folder, which may not be writable.
    command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf")).args(["-e", "stderr"]);
    let mut actor = stage.launch("nginx", address, command)?;
    actor.wait_open()?;
    actor.wait_healthy()?;
    Ok(actor)
}

/// Creates the topic with Kafka's own tool: a topic that the broker creates automatically has one partition.
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
    step::timed("create the topic", || step::run(command))
}

/// Writes nginx's configuration and scripts into its working folder.
fn write_config(dir: &Path, address: &str, stage: &Stage, topic: &str) -> Result<()> {
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

/// Measures only this rival.
pub(super) fn run(options: &Options) -> Result<()> {
    let seconds = options.seconds;
    let topic = "orders";
    let (stage, actor) = start_separately(topic)?;
    trace_one(&stage, &actor, topic)?;
    let pids = [actor.pid(), stage.redis.pid().unwrap_or(0), stage.kafka.pid().unwrap_or(0)];
    for (run, connections) in [("w", 256), ("a", 64), ("b", 256), ("c", 1024)] {
        let before = pids.map(cpu::family_seconds);
        let hits = wrk::run(&Load { address: &actor.address, run, item: "sale", connections, seconds })?;
        let after = pids.map(cpu::family_seconds);
        let per_order = |at: usize| (after[at] - before[at]) * 1e6 / hits.requests as f64;
        step::say(format_args!(
            "{WHO}, {connections} connections: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms; CPU per order: \
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
    let exit = actor.end()?;
    step::say(format_args!("nginx ended with {exit}"));
    Ok(())
}

/// Checks that every admitted order has a record in Kafka. All orders have new users and ids, so each left two keys in Redis.
fn audit(stage: &Stage, topic: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        // Read in each iteration: orders in flight when wrk closed its connections are still being admitted.
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

/// Traces one order: checks the responses to the buyer, the key in Redis and the record in Kafka.
fn trace_one(stage: &Stage, actor: &Actor, topic: &str) -> Result<()> {
    let order = r#"{"user_id":"u-1","item_id":"sale","amount":2,"request_id":"followed"}"#;
    let mut client = Client::connect(&actor.address);
    let mut buy = |order: &str| {
        let response = client.post_buy(order, &[("x-correlation-id", "followed-1")]);
        (response.status, response.text().to_owned())
    };
    let (status, text) = buy(order);
    expect("202", status == 202 && text.contains(r#""correlation_id":"followed-1""#), &text)?;
    for (what, order, wanted) in [
        ("409 for a duplicate", order.to_owned(), 409),
        ("422 for the same id with other contents", order.replace("\"amount\":2", "\"amount\":3"), 422),
        ("400 for a missing item", order.replace("sale", ""), 400),
        ("400 for invalid JSON", "{".to_owned(), 400),
    ] {
        let (status, text) = buy(&order);
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
    let is_expected = record.lines().count() == 1
        && record.starts_with("u-1 ")
        && ["\"request_id\":\"followed\"", "\"amount\":2", "\"correlation_id\":\"followed-1\""]
            .iter()
            .all(|part| record.contains(part));
    expect("one record in Kafka", is_expected, &record)?;
    step::say(format_args!("nginx + Lua stored an order in Redis as {stored:?} and in Kafka as {record:?}"));
    Ok(())
}

fn expect(what: &str, holds: bool, found: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(format!("nginx + Lua: expected {what}, found {found:?}").into()) }
}
