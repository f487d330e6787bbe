//! Maps librdkafka's codes and notices to reasons: a pure table.

use rdkafka_sys::rd_kafka_resp_err_t as Code;
use shard::dependency::Reason;

use crate::producer::{Delivery, SendRefused};

/// Code 0 of [`Delivery::PossiblyPersisted`] means that the publish deadline passed.
const OWN_DEADLINE: i32 = 0;

const REASONS: &[(Reason, &[Code])] = {
    use Code as C;
    &[
        (
            Reason::Unreachable,
            &[
                C::RD_KAFKA_RESP_ERR__TRANSPORT,
                C::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
                C::RD_KAFKA_RESP_ERR__RESOLVE,
                C::RD_KAFKA_RESP_ERR__NODE_UPDATE,
                C::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
                C::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
            ],
        ),
        (
            Reason::Timeout,
            &[
                C::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
                C::RD_KAFKA_RESP_ERR__TIMED_OUT,
                C::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE,
                C::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            ],
        ),
        (
            Reason::Auth,
            &[
                C::RD_KAFKA_RESP_ERR__AUTHENTICATION,
                C::RD_KAFKA_RESP_ERR__SSL,
                C::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
                C::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM,
                C::RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE,
            ],
        ),
        (
            Reason::Permission,
            &[
                C::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                C::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                C::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
                C::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ],
        ),
        (
            Reason::TopicMissing,
            &[
                C::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
                C::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
                C::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
                C::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
                C::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
            ],
        ),
        (
            Reason::NoLeader,
            &[
                C::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
                C::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                C::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
                C::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
                C::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
                C::RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE,
                C::RD_KAFKA_RESP_ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE,
            ],
        ),
        (
            Reason::NotEnoughReplicas,
            &[
                C::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                C::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ],
        ),
        (
            Reason::MessageTooLarge,
            &[C::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, C::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE],
        ),
        (
            Reason::Rejected,
            &[
                C::RD_KAFKA_RESP_ERR_INVALID_RECORD,
                C::RD_KAFKA_RESP_ERR_INVALID_MSG,
                C::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE,
                C::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
                C::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
                C::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
                C::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE,
            ],
        ),
        (Reason::Persistence, &[C::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR]),
        (Reason::QueueFull, &[C::RD_KAFKA_RESP_ERR__QUEUE_FULL]),
        (
            Reason::NotInGroup,
            &[
                C::RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED,
                C::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                C::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
                C::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                C::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
                C::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                C::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            ],
        ),
        (
            Reason::Fatal,
            &[
                C::RD_KAFKA_RESP_ERR__FATAL,
                C::RD_KAFKA_RESP_ERR__FENCED,
                C::RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE,
                C::RD_KAFKA_RESP_ERR__INCONSISTENT,
                C::RD_KAFKA_RESP_ERR__PURGE_QUEUE,
                C::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT,
                C::RD_KAFKA_RESP_ERR__DESTROY,
                C::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                C::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER,
                C::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
                C::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
                C::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
                C::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
            ],
        ),
        (
            Reason::Unsupported,
            &[
                C::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
                C::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
                C::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
            ],
        ),
    ]
};

/// The reason for a code of librdkafka or of the broker.
pub fn of_code(code: i32) -> Reason {
    if code == OWN_DEADLINE {
        return Reason::Timeout;
    }
    let has_code = |codes: &&[Code]| codes.iter().any(|&known| known as i32 == code);
    REASONS.iter().find(|(_, codes)| has_code(codes)).map_or(Reason::Other, |&(reason, _)| reason)
}

/// librdkafka's text for a code.
pub fn text_of_code(code: i32) -> String {
    if code == OWN_DEADLINE {
        return "no acknowledgement within PUBLISH_TIMEOUT".to_owned();
    }
    let known = REASONS.iter().flat_map(|(_, codes)| codes.iter()).find(|&&known| known as i32 == code);
    known.map_or_else(
        || format!("code {code}"),
        |&known| rdkafka::types::RDKafkaErrorCode::from(known).to_string(),
    )
}

/// Reason and text for a record that was not delivered; `None` for one that was.
pub fn of_delivery(delivery: Delivery) -> Option<(Reason, String)> {
    let of = |code: i32| Some((of_code(code), text_of_code(code)));
    match delivery {
        Delivery::Persisted { .. } => None,
        Delivery::NotPersisted { code }
        | Delivery::PossiblyPersisted { code }
        | Delivery::Refused(SendRefused::Other(code)) => of(code),
        Delivery::Refused(SendRefused::QueueFull) => of(Code::RD_KAFKA_RESP_ERR__QUEUE_FULL as i32),
        Delivery::Refused(SendRefused::TooLarge) => of(Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32),
    }
}

/// The reason for a notice, which has only text and no code; `None` if it is unrelated to whether Kafka can
/// be used.
pub fn of_notice(text: &str) -> Option<Reason> {
    const TEXTS: &[(&str, Reason)] = &[
        // Most specific first: a failed login is also a failed connection.
        ("authentication", Reason::Auth),
        ("SASL", Reason::Auth),
        ("SSL", Reason::Auth),
        ("uthorization failed", Reason::Permission),
        ("Not authorized", Reason::Permission),
        ("Unknown topic or partition", Reason::TopicMissing),
        // Texts of the producer's keeper.
        ("does not exist", Reason::TopicMissing),
        ("is missing", Reason::TopicMissing),
        ("has a leader", Reason::NoLeader),
        ("Leader not available", Reason::NoLeader),
        ("timed out", Reason::Timeout),
        ("Timed out", Reason::Timeout),
        ("Failed to resolve", Reason::Unreachable),
        ("Connect to", Reason::Unreachable),
        ("All broker connections are down", Reason::Unreachable),
        ("brokers are down", Reason::Unreachable),
        ("Broker transport failure", Reason::Unreachable),
        ("Disconnected", Reason::Unreachable),
        ("Connection closed", Reason::Unreachable),
        ("Connection setup", Reason::Unreachable),
    ];
    TEXTS.iter().find(|(part, _)| text.contains(part)).map(|&(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use shard::dependency::Dependency;

    use super::*;

    #[test]
    fn known_codes_map_to_their_reasons() {
        for (code, reason) in [
            (10, Reason::MessageTooLarge),
            (29, Reason::Permission),
            (19, Reason::NotEnoughReplicas),
            (20, Reason::NotEnoughReplicas),
            (3, Reason::TopicMissing),
            (6, Reason::NoLeader),
            (58, Reason::Auth),
            (56, Reason::Persistence),
            (45, Reason::Fatal),
            (-150, Reason::Fatal),
            (-184, Reason::QueueFull),
            (-192, Reason::Timeout),
            (-195, Reason::Unreachable),
            (0, Reason::Timeout),
            (12_345, Reason::Other),
        ] {
            assert_eq!(of_code(code), reason, "{code}");
        }
    }

    #[test]
    fn every_reason_belongs_to_kafka_and_no_code_has_two_reasons() {
        let mut seen = Vec::new();
        for (reason, codes) in REASONS {
            assert!(Dependency::Kafka.reasons().contains(reason), "{reason:?}");
            for &code in *codes {
                assert!(!seen.contains(&(code as i32)), "{code:?}");
                seen.push(code as i32);
            }
        }
    }

    #[test]
    fn a_failed_delivery_has_a_reason_and_a_text() {
        assert_eq!(of_delivery(Delivery::Persisted { partition: 0, offset: 1 }), None);
        let (reason, text) = of_delivery(Delivery::NotPersisted { code: 10 }).expect("failed");
        assert_eq!(reason, Reason::MessageTooLarge);
        assert!(text.contains("size too large"), "{text}");
    }

    #[test]
    fn notices_of_librdkafka_map_to_their_reasons() {
        for (text, reason) in [
            (
                "FAIL: [thrd:localhost:9092/bootstrap]: localhost:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 \
                 failed: Connection refused (after 0ms in state CONNECT)",
                Some(Reason::Unreachable),
            ),
            ("FAIL: [thrd:sasl]: SASL authentication error: Authentication failed", Some(Reason::Auth)),
            ("Global error: AllBrokersDown: 1/1 brokers are down", Some(Reason::Unreachable)),
            ("CONFWARN: Configuration property x is deprecated", None),
        ] {
            assert_eq!(of_notice(text), reason, "{text}");
        }
    }
}
