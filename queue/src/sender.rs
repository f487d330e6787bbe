//! Blocking producer for command-line tools: sends records together, and the calling thread waits for their
//! delivery.

use std::time::{Duration, Instant};

use crate::native::Client;
use crate::outgoing::Outgoing;
use crate::producer::{self, Delivery, ProducerError, ProducerSettings, SendRefused};

/// The report may come this much later than librdkafka's timeout: librdkafka checks once a second.
const REPORT_SLACK: Duration = Duration::from_secs(3);

/// A producer without cores that uses the same settings as the gateway's.
pub struct Sender {
    client: Client,
    wait_max: Duration,
}

impl Sender {
    /// Connects in the background.
    ///
    /// # Errors
    /// If librdkafka rejects the settings.
    pub fn open(settings: &ProducerSettings) -> Result<Self, ProducerError> {
        let wait_max = Duration::from_millis(settings.message_timeout_ms) + REPORT_SLACK;
        Ok(Self { client: producer::client(settings)?, wait_max })
    }

    /// Sends all records and waits for the delivery of each; returns the results in the order of the records.
    /// Blocks as long as librdkafka retries.
    pub fn send_all(&self, records: &[Outgoing<'_>]) -> Vec<Delivery> {
        let mut deliveries: Vec<Option<Delivery>> = records
            .iter()
            .enumerate()
            .map(|(index, outgoing)| {
                let refused = self.client.produce(outgoing, index as u64).err()?;
                Some(Delivery::Refused(SendRefused::of(refused)))
            })
            .collect();
        let deadline = Instant::now() + self.wait_max;
        while deliveries.iter().any(Option::is_none) && Instant::now() < deadline {
            self.client.poll(Duration::from_millis(50), |report| {
                if let Some(delivery) = deliveries.get_mut(report.opaque as usize) {
                    *delivery = Some(Delivery::of(&report));
                }
            });
        }
        deliveries
            .into_iter()
            .map(|delivery| delivery.unwrap_or(Delivery::PossiblyPersisted { code: 0 }))
            .collect()
    }
}
