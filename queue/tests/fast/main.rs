//! Tests of the queue that need no server: one property per file, all in one binary, because each binary has
//! to be linked.

#[path = "../member/mod.rs"]
mod member;

#[path = "../handover/mod.rs"]
mod handover;

mod consumer_commits_only_finished;
mod consumer_hands_over;
mod consumer_survives_foreign_headers;
mod consumer_takes_no_more_than_its_bound;
mod the_commit_offset_never_passes_an_unfinished_record;
