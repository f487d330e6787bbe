//! A typical implementation that a good Rust engineer writes in a day: axum on tokio, one multiplexed Redis connection,
//! rdkafka's FutureProducer. It has the same admission rules as one script, the same durability (acks=all, 202 after the
//! acknowledgement) and the same log line as the gateway. Its settings are `LISTEN_ADDR`, `REDIS_ADDR`, `KAFKA_ADDR`,
//! `ORDERS_TOPIC` and `LOG_LEVEL`.
//!
//! Not implemented: takeover of ids, release after a failed publish, circuit breaker, gates, limits, strict framing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::Script;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Order {
    user_id: String,
    item_id: String,
    amount: u32,
    request_id: String,
}

#[derive(Serialize)]
struct OrderRecord<'a> {
    user_id: &'a str,
    item_id: &'a str,
    amount: u32,
    request_id: &'a str,
    correlation_id: &'a str,
    accepted_at_ms: u64,
}

#[derive(Serialize)]
struct Queued<'a> {
    status: &'static str,
    correlation_id: &'a str,
    processing_time_ms: u64,
}

struct Shared {
    redis: MultiplexedConnection,
    script: Script,
    producer: FutureProducer,
    topic: String,
    sequence: AtomicU64,
}

/// Constants of the script, with the gateway's defaults.
const CONSTANTS: &str = "local LIMIT = 60\nlocal WINDOW_MS = 60000\nlocal WINDOW_TTL = '60000'\n\
    local ORDER_STATUS_TTL = '86400000'\nlocal TAKEOVER_AFTER_MS = 2250\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (writer, _guard) = tracing_appender::non_blocking(std::io::stdout());
    let level: tracing::Level = setting("LOG_LEVEL", "info").parse()?;
    tracing_subscriber::fmt().json().flatten_event(true).with_max_level(level).with_writer(writer).init();
    let redis = redis::Client::open(format!("redis://{}/", setting("REDIS_ADDR", "127.0.0.1:6379")))?;
    let script = format!("{CONSTANTS}{}", include_str!("../../admit.lua"));
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", setting("KAFKA_ADDR", "127.0.0.1:9092"))
        .set("enable.idempotence", "false")
        .set("acks", "all")
        .set("linger.ms", setting("KAFKA_LINGER_MS", "1"))
        .set("partitioner", "murmur2_random")
        .create()?;
    let shared = Arc::new(Shared {
        redis: redis.get_multiplexed_async_connection().await?,
        script: Script::new(&script),
        producer,
        topic: setting("ORDERS_TOPIC", "orders"),
        sequence: AtomicU64::new(1),
    });
    let app = Router::new()
        .route("/buy", post(buy))
        .route("/health", get(async || "{\"status\":\"healthy\"}"))
        .with_state(shared);
    let listener = tokio::net::TcpListener::bind(setting("LISTEN_ADDR", "127.0.0.1:8082")).await?;
    axum::serve(listener, app).await?;
    Ok(())
}

fn reject(status: StatusCode, error: &str, correlation_id: &str) -> Response {
    (status, Json(serde_json::json!({"error": error, "correlation_id": correlation_id}))).into_response()
}

async fn buy(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let began = Instant::now();
    let correlation_id = match headers.get("x-correlation-id").and_then(|value| value.to_str().ok()) {
        Some(given) => given.to_owned(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let Ok(order) = serde_json::from_slice::<Order>(&body) else {
        return reject(StatusCode::BAD_REQUEST, "Invalid request body", &correlation_id);
    };
    let is_id = |id: &str| {
        (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if !is_id(&order.user_id) || !is_id(&order.item_id) || !(1..=1000).contains(&order.amount) {
        return reject(StatusCode::BAD_REQUEST, "Validation failed", &correlation_id);
    }
    let mut fingerprint = 0xcbf2_9ce4_8422_2325_u64;
    for byte in order.user_id.bytes().chain(order.item_id.bytes()).chain(order.amount.to_le_bytes()) {
        fingerprint = (fingerprint ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let sequence = shared.sequence.fetch_add(1, Ordering::Relaxed);
    let mut connection = shared.redis.clone();
    let admitted: Result<redis::Value, _> = shared
        .script
        .key(format!("ratelimit:{}", order.user_id))
        .key(format!("order_status:{}", order.request_id))
        .arg(format!("{fingerprint:016x} {correlation_id}"))
        .arg(format!("rival {sequence}"))
        .invoke_async(&mut connection)
        .await;
    match admitted {
        Ok(redis::Value::Int(0 | 1)) => {}
        Ok(redis::Value::Int(2)) => {
            return reject(StatusCode::UNPROCESSABLE_ENTITY, "Request id reused with different content", &correlation_id);
        }
        Ok(redis::Value::Int(_)) => {
            return reject(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded", &correlation_id);
        }
        Ok(_) => return reject(StatusCode::CONFLICT, "Duplicate Request Detected", &correlation_id),
        Err(_) => return reject(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable", &correlation_id),
    }
    let accepted_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let record = OrderRecord {
        user_id: &order.user_id,
        item_id: &order.item_id,
        amount: order.amount,
        request_id: &order.request_id,
        correlation_id: &correlation_id,
        accepted_at_ms,
    };
    let Ok(payload) = serde_json::to_vec(&record) else {
        return reject(StatusCode::INTERNAL_SERVER_ERROR, "Failed to queue order", &correlation_id);
    };
    let headers = OwnedHeaders::new()
        .insert(Header { key: "correlation_id", value: Some(&correlation_id) })
        .insert(Header { key: "request_id", value: Some(&order.request_id) });
    let record = FutureRecord::to(&shared.topic).key(&order.user_id).payload(&payload).headers(headers);
    if shared.producer.send(record, Duration::from_secs(2)).await.is_err() {
        return reject(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable", &correlation_id);
    }
    let processing_time_ms = began.elapsed().as_millis() as u64;
    tracing::info!(
        correlation_id,
        service = "gateway",
        event = "order_queued",
        user_id = order.user_id,
        item_id = order.item_id,
        request_id = order.request_id,
        processing_time_ms,
        "Order queued successfully"
    );
    let body = Queued { status: "Order Queued", correlation_id: &correlation_id, processing_time_ms };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(value) = HeaderValue::from_str(&correlation_id) {
        response.headers_mut().insert("x-correlation-id", value);
    }
    response
}
