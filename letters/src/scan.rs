//! Letters, one after the other, with whether each is settled.

use std::ops::ControlFlow;
use std::time::Duration;

use queue::admin::Depth;
use queue::reader::TopicReader;

use crate::filter::Filter;
use crate::letter::Letter;
use crate::marks::Marks;
use crate::replay::{Places, ReplayError};

/// How long Kafka or Redis may take to answer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Gives every letter that the filter takes to `take`, with true when it was replayed or purged, until that breaks or the
/// topic ends. Letters of a partition come in their order.
///
/// # Errors
/// When Kafka or Redis does not answer.
pub fn scan(
    places: &Places,
    filter: &Filter,
    mut take: impl FnMut(Letter, bool) -> ControlFlow<()>,
) -> Result<(), ReplayError> {
    let mut marks = Marks::open(&places.redis, &places.dlq_topic, WAIT_MAX)?;
    let watermarks = Depth::open(&places.kafka, WAIT_MAX)?.watermarks(&places.dlq_topic)?;
    let handled = marks.handled(watermarks.iter().map(|marks| marks.partition))?;
    let mut reader = TopicReader::open(&places.kafka, &places.dlq_topic, WAIT_MAX)?;
    reader.read(|entry| {
        let letter = Letter::read(entry);
        if !filter.takes(&letter) {
            return ControlFlow::Continue(());
        }
        let is_handled = handled.has(letter.place);
        take(letter, is_handled)
    })?;
    Ok(())
}
