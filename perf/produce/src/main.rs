//! Measures the latency of Kafka's acknowledgement alone: sends records of the size of an order at a fixed rate through a
//! plain librdkafka producer (acks=all, the gateway's linger) and measures the time from the call of `send` to the delivery
//! report. The gateway's open-loop latency is reported as a multiple of this.
//!
//! It prints one JSON object. It uses none of the gateway's crates: a baseline must not share code with what is measured.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgMatches, Command, value_parser};
use hdrhistogram::Histogram;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

/// Largest recordable latency: ten minutes, in µs.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Time limit for outstanding records at the end.
const FLUSH: Duration = Duration::from_secs(10);
/// Maximum wait of one poll. It limits how long stopping the thread takes, not the latency of reports.
const POLL: Duration = Duration::from_millis(100);
/// Unmeasured time at the start, in which connections are opened and batch sizes settle.
const WARM_UP: Duration = Duration::from_secs(1);

/// Receives the delivery reports.
struct Reports {
    epoch: Instant,
    latency_us: Mutex<Histogram<u64>>,
    failed: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    /// Nanoseconds from the epoch to the call of `send`; 0 for records that are not measured.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_ns: usize) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        } else if sent_ns > 0 {
            let took_ns = (self.epoch.elapsed().as_nanos() as u64).saturating_sub(sent_ns as u64);
            self.latency_us.lock().expect("no holder panics").saturating_record(took_ns / 1000);
        }
    }
}

fn main() -> ExitCode {
    match run(&command_line().get_matches()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("produce: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> Command {
    let text =
        |name: &'static str, what: &'static str| Arg::new(name).long(name).value_name(what).required(true);
    let number = |name: &'static str, default: &'static str| {
        Arg::new(name).long(name).value_name("N").default_value(default).value_parser(value_parser!(u64))
    };
    Command::new("produce")
        .about("Send records at a fixed rate with a plain librdkafka producer (acks=all); measure latency to the delivery report")
        .arg(text("kafka", "ADDR").help("Bootstrap servers"))
        .arg(text("topic", "NAME").help("Existing topic"))
        .arg(number("rate", "1000").help("Records per second"))
        .arg(number("count", "0").help("Send this many records as fast as possible, instead of --rate for --seconds"))
        .arg(text("item", "ID").required(false).default_value("sale").help("Item of the orders"))
        .arg(text("run", "TEXT").required(false).default_value("produce").help("Prefix of the request ids"))
        .arg(number("seconds", "5").help("Measured seconds, after one unmeasured second"))
        .arg(
            number("sticky-partitions", "0")
                .help("One partition per slot of linger-ms, in rotation over this many partitions; 0 partitions by key"),
        )
        .arg(number("linger-ms", "1").help("linger.ms of the producer, and slot length of --sticky-partitions"))
}

fn run(args: &ArgMatches) -> Result<String, Box<dyn std::error::Error>> {
    let text = |name: &str| args.get_one::<String>(name).cloned().unwrap_or_default();
    let number = |name: &str| args.get_one::<u64>(name).copied().unwrap_or(1).max(1);
    let (rate, topic) = (number("rate"), text("topic"));
    let count = args.get_one::<u64>("count").copied().unwrap_or(0);
    let partitions = args.get_one::<u64>("sticky-partitions").copied().unwrap_or(0);
    let slot_ms = number("linger-ms");
    let orders = Orders { topic, item: text("item"), run: text("run"), partitions, slot_ms };
    let reports = Reports {
        epoch: Instant::now(),
        latency_us: Mutex::new(Histogram::new_with_max(LATENCY_US_MAX, 3)?),
        failed: AtomicU64::new(0),
    };
    let producer: Arc<BaseProducer<Reports>> = Arc::new(
        ClientConfig::new()
            .set("bootstrap.servers", text("kafka"))
            .set("enable.idempotence", "false")
            .set("acks", "all")
            .set("linger.ms", number("linger-ms").to_string())
            .set("partitioner", "murmur2_random")
            .set("socket.nagle.disable", "true")
            .create_with_context(reports)?,
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let poller = {
        let (producer, is_over) = (Arc::clone(&producer), Arc::clone(&is_over));
        std::thread::spawn(move || {
            // Relaxed: the flag guards no other data.
            while !is_over.load(Ordering::Relaxed) {
                producer.poll(POLL);
            }
        })
    };
    let sent = if count > 0 {
        fill(&producer, &orders, count)
    } else {
        send_all(&producer, &orders, rate, Duration::from_secs(number("seconds")))
    };
    let flushed = producer.flush(FLUSH);
    is_over.store(true, Ordering::Relaxed);
    poller.join().map_err(|_| "the polling thread panicked")?;
    let (sent, late_us) = sent?;
    flushed?;
    let reports = producer.context();
    let latency = reports.latency_us.lock().map_err(|_| "the delivery callback panicked")?;
    Ok(format!(
        "{{\"sent\":{sent},\"measured\":{},\"failed\":{},\"p50_us\":{},\"p99_us\":{},\"p999_us\":{},\"max_us\":{},\
         \"late_us_p99\":{}}}",
        latency.len(),
        reports.failed.load(Ordering::Relaxed),
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
        latency.value_at_quantile(0.999),
        latency.max(),
        late_us.value_at_quantile(0.99),
    ))
}

/// Common properties of the orders.
struct Orders {
    topic: String,
    item: String,
    run: String,
    /// Number of partitions to rotate over; 0 to partition by key.
    partitions: u64,
    slot_ms: u64,
}

/// Sends `count` records as fast as the broker accepts them, without measuring.
fn fill(
    producer: &BaseProducer<Reports>,
    orders: &Orders,
    count: u64,
) -> Result<(u64, Histogram<u64>), Box<dyn std::error::Error>> {
    let epoch = producer.context().epoch;
    for number in 0..count {
        // If the queue is full, wait: the polling thread empties it.
        while let Err(error) = send(producer, orders, number, epoch, false) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok((count, Histogram::new_with_max(LATENCY_US_MAX, 3)?))
}

/// Sends at constant intervals; records that became due during a sleep are sent immediately after it. Returns the number of
/// records and a histogram of how late they were sent.
fn send_all(
    producer: &BaseProducer<Reports>,
    orders: &Orders,
    rate: u64,
    measured: Duration,
) -> Result<(u64, Histogram<u64>), Box<dyn std::error::Error>> {
    let mut late_us = Histogram::new_with_max(LATENCY_US_MAX, 3)?;
    let epoch = producer.context().epoch;
    let started = Instant::now();
    let total = rate * (WARM_UP + measured).as_secs();
    let warm_up = rate * WARM_UP.as_secs();
    for number in 0..total {
        let due = Duration::from_nanos(number * 1_000_000_000 / rate);
        let ahead = due.saturating_sub(started.elapsed());
        if !ahead.is_zero() {
            std::thread::sleep(ahead);
        }
        let is_measured = number >= warm_up;
        if is_measured {
            late_us.saturating_record((started.elapsed().saturating_sub(due)).as_micros() as u64);
        }
        send(producer, orders, number, epoch, is_measured)?;
    }
    Ok((total, late_us))
}

/// Sends one record with key, value and headers of the same lengths as the gateway's.
fn send(
    producer: &BaseProducer<Reports>,
    orders: &Orders,
    number: u64,
    epoch: Instant,
    is_measured: bool,
) -> Result<(), KafkaError> {
    let Orders { topic, item, run, partitions, slot_ms } = orders;
    let id = format!("{run}-{number:012}");
    let user = format!("user-{number:08}");
    let correlation = format!("00000000-0000-4000-8000-{number:012}");
    let accepted_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let value = format!(
        "{{\"user_id\":\"{user}\",\"item_id\":\"{item}\",\"amount\":1,\"request_id\":\"{id}\",\
         \"correlation_id\":\"{correlation}\",\"accepted_at_ms\":{accepted_at_ms}}}"
    );
    let headers = OwnedHeaders::new()
        .insert(Header { key: "correlation_id", value: Some(&correlation) })
        .insert(Header { key: "request_id", value: Some(&id) });
    let sent_ns = if is_measured { epoch.elapsed().as_nanos() as usize } else { 0 };
    let mut record = BaseRecord::with_opaque_to(topic, sent_ns).key(&user).payload(&value).headers(headers);
    if *partitions > 0 {
        let slot = epoch.elapsed().as_millis() as u64 / slot_ms;
        record = record.partition((slot % partitions) as i32);
    }
    producer.send(record).map_err(|(error, _)| error)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command_line().debug_assert();
    }
}
