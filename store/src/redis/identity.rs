//! Detects whether a different server answers, which may lack the last writes of the previous one.
//!
//! Redis acknowledges a write before its append-only file and its replicas have it, so a restarted process or
//! a promoted replica may lack the last writes. Not detected if the server denies INFO.

use std::time::Instant;

use wire::resp::Reply;

use super::PossibleLoss;

/// What a connection knows about the server's identity.
#[derive(Debug)]
pub(super) struct Identity {
    /// Run id and replication id of the last established session.
    last: Option<String>,
    /// Those of the session that is being established.
    next: Option<String>,
    /// Time of the last reply in the last established session.
    last_served: Instant,
    loss: Option<PossibleLoss>,
}

impl Identity {
    pub(super) fn new() -> Self {
        Self { last: None, next: None, last_served: Instant::now(), loss: None }
    }

    /// Handles the reply to INFO in a handshake.
    pub(super) fn on_info(&mut self, reply: &Reply<'_>) {
        self.next = identity(reply);
    }

    /// An established session has ended.
    pub(super) fn on_lost(&mut self, last_reply: Instant) {
        self.last_served = last_reply;
    }

    /// A session was established.
    pub(super) fn on_established(&mut self) {
        let Some(next) = self.next.take() else { return };
        if self.last.as_ref().is_some_and(|last| *last != next) {
            let since = self.loss.as_ref().map_or(self.last_served, |earlier| earlier.since);
            self.loss = Some(PossibleLoss { server: next.clone(), since });
        }
        self.last = Some(next);
    }

    pub(super) fn take_loss(&mut self) -> Option<PossibleLoss> {
        self.loss.take()
    }
}

fn identity(reply: &Reply<'_>) -> Option<String> {
    let Reply::Bulk(info) = reply else { return None };
    let info = str::from_utf8(info).ok()?;
    let field = |name| info.lines().find_map(|line: &str| line.strip_prefix(name));
    Some(field("run_id:")?.to_owned() + field("master_replid:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn establish(identity: &mut Identity, info: &str) -> Option<PossibleLoss> {
        identity.on_info(&Reply::Bulk(info.as_bytes()));
        identity.on_established();
        identity.take_loss()
    }

    #[test]
    fn a_restarted_server_and_a_promoted_replica_are_a_possible_loss() {
        let mut identity = Identity::new();
        let first = "# Server\r\nrun_id:a\r\n# Replication\r\nmaster_replid:1\r\n";
        assert_eq!(establish(&mut identity, first), None, "the first one");
        assert_eq!(establish(&mut identity, first), None, "the connection broke");
        let last_reply = Instant::now();
        identity.on_lost(last_reply);
        for (info, server) in
            [("run_id:b\r\nmaster_replid:2\r\n", "b2"), ("run_id:b\r\nmaster_replid:3\r\n", "b3")]
        {
            let expected = PossibleLoss { server: server.to_owned(), since: last_reply };
            assert_eq!(establish(&mut identity, info), Some(expected));
            assert_eq!(establish(&mut identity, info), None);
        }
    }

    #[test]
    fn a_server_that_denies_info_is_not_compared() {
        let mut identity = Identity::new();
        assert_eq!(establish(&mut identity, "run_id:a\r\nmaster_replid:1\r\n"), None);
        identity.on_info(&Reply::Error(b"NOPERM"));
        identity.on_established();
        assert_eq!(identity.take_loss(), None);
        assert!(
            establish(&mut identity, "run_id:b\r\nmaster_replid:1\r\n").is_some(),
            "INFO is allowed again"
        );
    }
}
