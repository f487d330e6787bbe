//! A gateway for tests with embedded Kafka and Redis: the production cores and producer, and the in-memory store.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this module")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Parts, Running};
use queue::embedded::Embedded;
use settings::read::Reader;
use shard::log::{Level, Sink};
use store::memory::Memory;
use store::open::Source;
use testkit::http::{Client, Response};

/// A running gateway with its broker and store. Fields drop in order: the gateway before the broker.
pub struct TestGateway {
    pub gateway: Option<Running>,
    pub memory: Arc<Memory>,
    pub embedded: Embedded,
    pub sink: Arc<Sink>,
}

impl TestGateway {
    /// Two cores unless `variables` say otherwise; Redis is the in-memory store unless they name a server.
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let (sink, _) = Sink::start("gateway", Level::Warn, std::io::stderr()).expect("log thread");
        Self::logging(variables, sink)
    }

    /// Like [`TestGateway::new`], with another log sink.
    pub fn logging(variables: &[(&str, &str)], sink: Arc<Sink>) -> Self {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let lookup = |name: &str| match name {
            "LISTEN_ADDR" => Some("127.0.0.1:0".to_owned()),
            "KAFKA_ADDR" => Some("embedded".to_owned()),
            _ => variables.get(name).map(|value| (*value).to_owned()).or(match name {
                "WORKERS" => Some("2".to_owned()),
                "REDIS_ADDR" => Some("embedded".to_owned()),
                _ => None,
            }),
        };
        let mut reader = Reader::new(HashMap::new(), &lookup);
        let settings = reader.gateway();
        reader.finish().expect("the test's settings are good");
        let shared = &settings.shared;
        let embedded = Embedded::start(&shared.orders_topic, &shared.dlq_topic, shared.orders_partitions)
            .expect("broker");
        let memory = Memory::new(gateway::run::policy(&settings), 1_000_000);
        let parts = Parts {
            sink: Arc::clone(&sink),
            source: Source::new(&shared.redis, || Arc::clone(&memory)),
            kafka_bootstrap: embedded.bootstrap().to_owned(),
            guard: Some(embedded.guard()),
            unhealable: Arc::new(|reason| panic!("{reason}")),
        };
        let gateway = gateway::start(&settings, &parts).expect("gateway");
        testkit::wait_until("the gateway is ready", Duration::from_secs(10), || gateway.is_ready());
        Self { gateway: Some(gateway), memory, embedded, sink }
    }

    pub fn running(&self) -> &Running {
        self.gateway.as_ref().expect("still up")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.running().address())
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.running().page().expect("page");
        let line = page.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// Asserts the contract's identity of the order counters; no order may be in flight.
    pub fn assert_identity(&self) {
        let parts = [
            "orders_successful",
            "orders_failed",
            "orders_validation_failed",
            "orders_idempotency_rejected",
            "rate_limited",
            "sold_out",
            "shed",
        ];
        let sum: f64 = parts.iter().map(|part| self.metric(&format!("gateway_{part}_total"))).sum();
        assert!(
            (self.metric("gateway_orders_received_total") - sum).abs() < 0.5,
            "{:?}",
            self.running().page()
        );
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop(Duration::from_secs(5));
        }
    }
}

/// The JSON body of an order.
pub fn order(user: &str, request_id: &str) -> String {
    format!(r#"{{"user_id":"{user}","item_id":"101","amount":1,"request_id":"{request_id}"}}"#)
}

/// Status and body of a response.
pub fn status_and_body(response: &Response) -> (u16, String) {
    (response.status, response.text().to_owned())
}
