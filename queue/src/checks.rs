//! Checks whether the topics are configured as a sale needs it. Blocks on the network: for a separate thread,
//! never for a core.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::Metadata;
use shard::checks::{CheckFn, Finding, Group, Verdict};

use crate::admin::{AdminError, block_on};

const NAMES: [&str; 5] = [ORDERS_CLEANUP, ORDERS_RETENTION, ORDERS_REPLICATION, DLQ_CLEANUP, DLQ_REPLICATION];

const ORDERS_CLEANUP: &str = "orders_cleanup_policy";
const ORDERS_RETENTION: &str = "orders_retention";
const ORDERS_REPLICATION: &str = "orders_replication";
const DLQ_CLEANUP: &str = "dlq_cleanup_policy";
const DLQ_REPLICATION: &str = "dlq_replication";

/// The topics to check, and how long the status of an order is kept.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Bootstrap list.
    pub bootstrap: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
    /// `ORDER_STATUS_TTL`
    pub order_status_ttl_ms: u64,
}

/// Timeout of all queries of one run.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The checks of the topics; `None` for those of the embedded broker.
pub fn group(checked: Option<Checked>) -> Group {
    let check = checked.map(|checked| -> CheckFn {
        Box::new(move || checked.run(TIMEOUT).map_err(|error| error.to_string()))
    });
    Group { names: &NAMES, check }
}

impl Checked {
    /// Runs the checks once. Returns an error if Kafka cannot be queried now; if Kafka denies a query, the
    /// verdict is `Unknown`.
    fn run(&self, timeout: Duration) -> Result<Vec<Finding>, AdminError> {
        let operation = || format!("configuration of topics on {}", self.bootstrap);
        let failed = |reason: String| AdminError { operation: operation(), reason };
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        let admin: AdminClient<DefaultClientContext> =
            config.create().map_err(|error| failed(error.to_string()))?;
        let metadata =
            admin.inner().fetch_metadata(None, left()).map_err(|error| failed(error.to_string()))?;
        let topics = [self.orders_topic.as_str(), self.dlq_topic.as_str()];
        if let Some(missing) = topics.iter().find(|topic| partitions(&metadata, topic) == 0) {
            return Err(failed(format!("topic {missing} does not exist yet")));
        }
        let options = AdminOptions::new().request_timeout(Some(left()));
        let described = block_on(admin.describe_configs(&topics.map(ResourceSpecifier::Topic), &options));
        let described = described.map_err(|error| failed(error.to_string()))?;
        let mut configs = described.into_iter().map(|config| config.map_err(|code| code.to_string()));
        let mut next = || configs.next().unwrap_or_else(|| Err("no answer".to_owned()));
        let (orders, dead_letters) = (next(), next());
        let [orders_topic, dlq_topic] = topics;
        Ok(vec![
            (ORDERS_CLEANUP, cleanup(orders_topic, setting(&orders, "cleanup.policy"))),
            (
                ORDERS_RETENTION,
                retention(orders_topic, setting(&orders, "retention.ms"), self.order_status_ttl_ms),
            ),
            (ORDERS_REPLICATION, replication(&metadata, orders_topic)),
            (DLQ_CLEANUP, cleanup(dlq_topic, setting(&dead_letters, "cleanup.policy"))),
            (DLQ_REPLICATION, replication(&metadata, dlq_topic)),
        ])
    }
}

fn partitions(metadata: &Metadata, topic: &str) -> usize {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found.map_or(0, |found| found.partitions().len())
}

fn setting<'a>(config: &'a Result<ConfigResource, String>, name: &str) -> Result<&'a str, String> {
    let config = config.as_ref().map_err(Clone::clone)?;
    let entry = config.entries.iter().find(|entry| entry.name == name);
    entry.and_then(|entry| entry.value.as_deref()).ok_or_else(|| format!("Kafka did not return {name}"))
}

fn cleanup(topic: &str, policy: Result<&str, String>) -> Verdict {
    match policy {
        Ok(policy) if policy.split(',').any(|word| word.trim() == "compact") => Verdict::Warning(format!(
            "Topic {topic} has cleanup.policy={policy}: its key is the user, so compaction deletes orders that were \
             acknowledged; set cleanup.policy=delete"
        )),
        Ok(_) => Verdict::Fine,
        Err(error) => Verdict::Unknown(format!("The cleanup.policy of topic {topic} is not known: {error}")),
    }
}

fn retention(topic: &str, retention_ms: Result<&str, String>, order_status_ttl_ms: u64) -> Verdict {
    let parsed =
        retention_ms.and_then(|text| text.parse::<i64>().map_err(|_| format!("retention.ms is {text:?}")));
    match parsed {
        // -1 means unlimited.
        Ok(retention_ms) => match u64::try_from(retention_ms) {
            Ok(retention_ms) if retention_ms < order_status_ttl_ms => Verdict::Warning(format!(
                "Topic {topic} has retention.ms={retention_ms}, less than ORDER_STATUS_TTL ({order_status_ttl_ms} ms): \
                 orders may be deleted before they are processed; raise retention.ms"
            )),
            _ => Verdict::Fine,
        },
        Err(error) => Verdict::Unknown(format!("The retention.ms of topic {topic} is not known: {error}")),
    }
}

fn replication(metadata: &Metadata, topic: &str) -> Verdict {
    let brokers = metadata.brokers().len();
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let replicas =
        found.and_then(|found| found.partitions().iter().map(|partition| partition.replicas().len()).min());
    judge_replicas(topic, brokers, replicas)
}

fn judge_replicas(topic: &str, brokers: usize, replicas: Option<usize>) -> Verdict {
    match replicas {
        Some(1) if brokers > 1 => Verdict::Warning(format!(
            "Topic {topic} has one replica on a cluster of {brokers} brokers: the loss of one broker loses orders; raise its \
             replication to 3 and set min.insync.replicas=2"
        )),
        Some(_) => Verdict::Fine,
        None => Verdict::Unknown(format!("The replicas of topic {topic} are not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_topic_configuration() {
        assert_eq!(cleanup("orders", Ok("delete")), Verdict::Fine);
        assert!(matches!(cleanup("orders", Ok("compact,delete")), Verdict::Warning(_)));
        assert!(matches!(cleanup("orders", Err("denied".to_owned())), Verdict::Unknown(_)));
        assert_eq!(retention("orders", Ok("-1"), 86_400_000), Verdict::Fine);
        assert_eq!(retention("orders", Ok("604800000"), 86_400_000), Verdict::Fine);
        assert!(matches!(retention("orders", Ok("60000"), 86_400_000), Verdict::Warning(_)));
        assert!(matches!(retention("orders", Ok("soon"), 1), Verdict::Unknown(_)));
        assert_eq!(judge_replicas("orders", 1, Some(1)), Verdict::Fine);
        assert_eq!(judge_replicas("orders", 3, Some(3)), Verdict::Fine);
        assert!(matches!(judge_replicas("orders", 3, Some(1)), Verdict::Warning(_)));
        assert!(matches!(judge_replicas("orders", 3, None), Verdict::Unknown(_)));
    }
}
