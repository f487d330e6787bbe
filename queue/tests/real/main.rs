//! Tests of the queue against real services: one property per file, all in one binary, because each binary
//! has to be linked.

#[path = "../member/mod.rs"]
mod member;

#[path = "../handover/mod.rs"]
mod handover;

mod acknowledged_after_a_new_cluster;
mod consumer_hands_over;
mod shrunk_topic_is_read;
