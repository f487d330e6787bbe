//! Property: whatever a successor does before it takes over, the running gateway keeps serving. After the takeover the
//! successor owns the sockets, and no connection that waited in their queues is lost.
//! Method: the production gateway and its handover socket; the test plays successors that fail at each protocol step.

use crate::test_gateway;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gateway::handover::{self, HandoverListener, Progress};
use test_gateway::{TestGateway, order};
use testkit::TempDir;
use testkit::http::Client;

const DEADLINE: Duration = Duration::from_secs(20);

/// A gateway with a handover socket and its events; the event `None` means that a successor has taken over.
struct HandoverTest {
    test_gateway: TestGateway,
    path: PathBuf,
    events: Receiver<Option<String>>,
    _dir: TempDir,
}

impl HandoverTest {
    fn new() -> Self {
        let dir = TempDir::new("handover");
        let path = dir.path().join("gateway.sock");
        let test_gateway = TestGateway::new(&[]);
        let handover = HandoverListener::bind(&path).expect("a handover socket");
        handover.publish().expect("published at its path");
        let (sender, events) = channel();
        let events_out = sender.clone();
        let report = move |progress| {
            let text = match progress {
                Progress::Began => "began".to_owned(),
                Progress::Failed(error) => error.to_string(),
            };
            // The test may be over.
            let _ = events_out.send(Some(text));
        };
        test_gateway
            .running()
            .serve_successors(handover, report, move || drop(sender.send(None)))
            .expect("a thread");
        Self { test_gateway, path, events, _dir: dir }
    }

    fn address(&self) -> SocketAddr {
        self.test_gateway.running().address()
    }

    fn next_event(&self) -> Option<String> {
        self.events.recv_timeout(DEADLINE).expect("a handover event")
    }

    /// Asserts that a new connection is accepted and an order on it gets 202.
    fn assert_serves(&self, request_id: &str) {
        let answer = Client::connect(self.address()).post_buy(&order("u", request_id), &[]);
        assert_eq!(answer.status, 202, "{request_id}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the socket").permissions().mode() & 0o777
}

#[test]
fn the_predecessor_keeps_serving_when_a_successor_fails_at_any_step() {
    let test = HandoverTest::new();
    assert_eq!(mode(&test.path), 0o600);

    let (predecessor, sockets) = handover::connect(&test.path).expect("an answer").expect("a gateway");
    assert_eq!(sockets.len(), 2, "one per core");
    assert_eq!(test.next_event().as_deref(), Some("began"));
    test.assert_serves("while the successor starts");
    drop((predecessor, sockets));
    assert!(test.next_event().is_some_and(|text| text.contains("closed")));
    test.assert_serves("after a successor that never became ready");

    let (mut predecessor, sockets) = handover::connect(&test.path).expect("an answer").expect("a gateway");
    predecessor.stop_accepting().expect("it stops");
    // In the queue of a socket on which no process accepts.
    let mut waiting = Client::connect(test.address());
    drop((predecessor, sockets));
    assert_eq!(waiting.post_buy(&order("u", "waited"), &[]).status, 202);
    test.assert_serves("after a successor that was ready");
    assert_eq!(test.next_event().as_deref(), Some("began"));
    assert!(test.next_event().is_some_and(|text| text.contains("closed")));

    let mut stranger = UnixStream::connect(&test.path).expect("connected to the handover socket");
    stranger.write_all(b"GET / HTTP/1.1\r\n").expect("it can be sent");
    assert!(test.next_event().is_some_and(|text| text.contains("another version")));
    test.assert_serves("after an unknown client");
}

#[test]
fn the_successor_owns_the_sockets_after_the_takeover() {
    let test = HandoverTest::new();
    let mut old = test.test_gateway.client();
    let (mut predecessor, sockets) = handover::connect(&test.path).expect("an answer").expect("a gateway");
    predecessor.stop_accepting().expect("it stops");
    let waiting = Client::connect(test.address());
    predecessor.take().expect("in time");
    assert_eq!(test.next_event().as_deref(), Some("began"));
    assert_eq!(test.next_event(), None);
    // The kernel has put the connection into one of the queues.
    let accepted = sockets.iter().any(|socket: &TcpListener| {
        socket.set_nonblocking(true).expect("a socket");
        socket.accept().is_ok()
    });
    assert!(accepted, "the waiting connection belongs to the successor");
    drop(waiting);
    // Existing connections are served until they end.
    assert_eq!(old.post_buy(&order("u", "kept"), &[]).status, 202);
    test.test_gateway.running().leave();
    let last = old.post_buy(&order("u", "last"), &[]);
    assert_eq!((last.status, last.header("connection")), (202, Some("close")));
    old.expect_closed();
    testkit::wait_until("no connection is open", DEADLINE, || {
        test.test_gateway.running().open_connections() == 0
    });
    drop(sockets);
    testkit::wait_until("no process holds the sockets any more", DEADLINE, || {
        std::net::TcpStream::connect(test.address()).is_err()
    });
}

#[test]
fn requests_pipelined_before_leaving_are_all_answered() {
    let test_gateway = TestGateway::new(&[("WORKERS", "1")]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "first"), &[]).status, 202);
    test_gateway.running().leave();
    let pipelined: Vec<u8> =
        (0..3).flat_map(|n| client.buy_request(&order("u", &format!("p-{n}")), &[])).collect();
    client.send_raw(&pipelined);
    let closes: Vec<bool> = (0..3)
        .map(|_| {
            let answer = client.read_response();
            assert_eq!(answer.status, 202);
            answer.header("connection") == Some("close")
        })
        .collect();
    assert_eq!(closes, [false, false, true]);
    client.expect_closed();
}

#[test]
fn a_stale_socket_file_counts_as_no_gateway() {
    let dir = TempDir::new("handover");
    let path = dir.path().join("gateway.sock");
    assert!(handover::connect(&path).expect("no file").is_none());
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(handover::connect(&path).expect("a stale file").is_none());
    let handover = HandoverListener::bind(&path).expect("a handover socket next to it");
    handover.publish().expect("in its place");
    assert_eq!(mode(&path), 0o600);
}
