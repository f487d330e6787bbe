//! Reads all dead letters, each with whether it has been handled.

use std::ops::ControlFlow;
use std::time::Duration;

use queue::admin::Depth;
use queue::reader::TopicReader;

use crate::dead_letter::DeadLetter;
use crate::filter::Filter;
use crate::marks::Marks;
use crate::replay::{Endpoints, ReplayError};

/// Timeout for each reply of Kafka or Redis.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Calls `take` for every dead letter that matches the filter, with true if it was replayed or purged, until
/// `take` breaks or the topic ends. The dead letters of a partition come in offset order.
///
/// # Errors
/// When Kafka or Redis does not respond.
pub fn scan(
    endpoints: &Endpoints,
    filter: &Filter,
    mut take: impl FnMut(DeadLetter, bool) -> ControlFlow<()>,
) -> Result<(), ReplayError> {
    let mut marks = Marks::open(&endpoints.redis, &endpoints.dlq_topic, WAIT_MAX)?;
    let watermarks = Depth::open(&endpoints.kafka, WAIT_MAX)?.watermarks(&endpoints.dlq_topic)?;
    let handled = marks.handled(watermarks.iter().map(|marks| marks.partition))?;
    let mut reader = TopicReader::open(&endpoints.kafka, &endpoints.dlq_topic, WAIT_MAX)?;
    reader.read(|entry| {
        let dead_letter = DeadLetter::read(entry);
        if !filter.matches(&dead_letter) {
            return ControlFlow::Continue(());
        }
        let is_handled = handled.has(dead_letter.position);
        take(dead_letter, is_handled)
    })?;
    Ok(())
}
