//! Which server answers, and whether it may lack the last writes of the one before.
//!
//! Redis acknowledges before its append-only file and its replicas have a write, so a restarted process or a promoted replica may
//! lack the last ones. Not detected if the server denies INFO.

use std::time::Instant;

use wire::resp::Reply;

use super::PossibleLoss;

/// As far as a connection knows.
#[derive(Debug)]
pub(super) struct Identity {
    /// Run id and replication id of the last session that was established.
    last: Option<String>,
    /// Those of the session that is being established.
    next: Option<String>,
    /// Time of the last reply in the last session that was established.
    last_served: Instant,
    loss: Option<PossibleLoss>,
}

impl Identity {
    pub(super) fn new() -> Self {
        Self { last: None, next: None, last_served: Instant::now(), loss: None }
    }

    /// The reply to INFO, in a handshake.
    pub(super) fn told(&mut self, reply: &Reply<'_>) {
        self.next = identity(reply);
    }

    /// A session that had come up is over.
    pub(super) fn lost(&mut self, last_reply: Instant) {
        self.last_served = last_reply;
    }

    /// A session has come up.
    pub(super) fn came_up(&mut self) {
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

    fn come_up(identity: &mut Identity, info: &str) -> Option<PossibleLoss> {
        identity.told(&Reply::Bulk(info.as_bytes()));
        identity.came_up();
        identity.take_loss()
    }

    #[test]
    fn another_process_and_a_promoted_replica_may_lack_writes() {
        let mut identity = Identity::new();
        let first = "# Server\r\nrun_id:a\r\n# Replication\r\nmaster_replid:1\r\n";
        assert_eq!(come_up(&mut identity, first), None, "the first one");
        assert_eq!(come_up(&mut identity, first), None, "the connection broke");
        let last_reply = Instant::now();
        identity.lost(last_reply);
        for (info, server) in
            [("run_id:b\r\nmaster_replid:2\r\n", "b2"), ("run_id:b\r\nmaster_replid:3\r\n", "b3")]
        {
            let expected = PossibleLoss { server: server.to_owned(), since: last_reply };
            assert_eq!(come_up(&mut identity, info), Some(expected));
            assert_eq!(come_up(&mut identity, info), None);
        }
    }

    #[test]
    fn a_server_that_does_not_say_is_not_compared() {
        let mut identity = Identity::new();
        assert_eq!(come_up(&mut identity, "run_id:a\r\nmaster_replid:1\r\n"), None);
        identity.told(&Reply::Error(b"NOPERM"));
        identity.came_up();
        assert_eq!(identity.take_loss(), None);
        assert!(come_up(&mut identity, "run_id:b\r\nmaster_replid:1\r\n").is_some(), "it says so later");
    }
}
