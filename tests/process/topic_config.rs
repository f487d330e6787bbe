//! Changes the configuration of a topic, as an operator would.
#![allow(dead_code, unreachable_pub, reason = "each test uses only parts of this module")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::topics::WAIT_MAX;

/// Sets these settings; all other settings of the topic get their defaults.
pub fn set(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in settings {
        config = config.set(name, value);
    }
    let options = AdminOptions::new().request_timeout(Some(WAIT_MAX));
    let changed = block_on(admin.alter_configs([&config], &options)).expect("a response of Kafka");
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
