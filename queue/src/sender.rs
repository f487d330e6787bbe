//! Records from a command line: handed over together, and waited for by the thread that sent them.

use std::time::{Duration, Instant};

use crate::native::Client;
use crate::producer::{self, Delivery, Outgoing, ProducerError, ProducerSettings, SendRefused};

/// After librdkafka's own time-out its report may take this much longer: it looks once a second.
const REPORT_SLACK: Duration = Duration::from_secs(3);

/// A producer without cores, with the settings of the gateway's.
pub struct Sender {
    client: Client,
    wait_max: Duration,
}

impl Sender {
    /// Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn open(settings: &ProducerSettings) -> Result<Self, ProducerError> {
        let wait_max = Duration::from_millis(settings.message_timeout_ms) + REPORT_SLACK;
        Ok(Self { client: producer::client(settings)?, wait_max })
    }

    /// Sends all and waits for every fate, in the order of the records. Blocks for as long as librdkafka tries.
    pub fn send_all(&self, records: &[Outgoing<'_>]) -> Vec<Delivery> {
        let mut fates: Vec<Option<Delivery>> = records
            .iter()
            .enumerate()
            .map(|(index, outgoing)| {
                let refused = self.client.produce(outgoing, index as u64).err()?;
                Some(Delivery::Refused(SendRefused::of(refused)))
            })
            .collect();
        let deadline = Instant::now() + self.wait_max;
        while fates.iter().any(Option::is_none) && Instant::now() < deadline {
            self.client.poll(Duration::from_millis(50), |report| {
                if let Some(fate) = fates.get_mut(report.opaque as usize) {
                    *fate = Some(Delivery::of(&report));
                }
            });
        }
        fates.into_iter().map(|fate| fate.unwrap_or(Delivery::PossiblyPersisted { code: 0 })).collect()
    }
}
