//! Promise: whatever a successor does before it takes over, the running gateway goes on serving; once it has taken over,
//! the sockets are its own and a connection that waited in their queues is not lost.
//! Method: the production gateway and its door, successors played by the test at every step of the conversation.

use crate::test_gateway;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gateway::handover::{self, Door, Progress};
use test_gateway::{TestGateway, order};
use testkit::TempDir;
use testkit::http::Client;

const DEADLINE: Duration = Duration::from_secs(20);

/// A gateway with a door; what happens at it comes out of the channel, `None` for taken over.
struct Stage {
    test_gateway: TestGateway,
    path: PathBuf,
    events: Receiver<Option<String>>,
    _dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = TempDir::new("handover");
        let path = dir.path().join("gateway.sock");
        let test_gateway = TestGateway::new(&[]);
        let door = Door::bind(&path).expect("a door");
        door.publish().expect("at its path");
        let (sender, events) = channel();
        let told = sender.clone();
        let tell = move |progress| {
            let text = match progress {
                Progress::Began => "began".to_owned(),
                Progress::Failed(error) => error.to_string(),
            };
            // The test may be over.
            let _ = told.send(Some(text));
        };
        test_gateway
            .running()
            .serve_successors(door, tell, move || drop(sender.send(None)))
            .expect("a thread");
        Self { test_gateway, path, events, _dir: dir }
    }

    fn address(&self) -> SocketAddr {
        self.test_gateway.running().address()
    }

    fn next(&self) -> Option<String> {
        self.events.recv_timeout(DEADLINE).expect("an event at the door")
    }

    /// A new connection is accepted and an order on it taken.
    fn serves(&self, request_id: &str) {
        let answer = Client::connect(self.address()).post_buy(&order("u", request_id), &[]);
        assert_eq!(answer.status, 202, "{request_id}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the socket").permissions().mode() & 0o777
}

#[test]
fn a_successor_that_goes_away_at_any_step_changes_nothing() {
    let stage = Stage::new();
    assert_eq!(mode(&stage.path), 0o600);

    let (predecessor, sockets) = handover::connect(&stage.path).expect("an answer").expect("a gateway");
    assert_eq!(sockets.len(), 2, "one a core");
    assert_eq!(stage.next().as_deref(), Some("began"));
    stage.serves("while it starts");
    drop((predecessor, sockets));
    assert!(stage.next().is_some_and(|text| text.contains("closed")));
    stage.serves("after one that never was ready");

    let (mut predecessor, sockets) = handover::connect(&stage.path).expect("an answer").expect("a gateway");
    predecessor.stop_accepting().expect("it stops");
    // In the queue of a socket that nobody accepts on.
    let mut waiting = Client::connect(stage.address());
    drop((predecessor, sockets));
    assert_eq!(waiting.post_buy(&order("u", "waited"), &[]).status, 202);
    stage.serves("after one that was ready");
    assert_eq!(stage.next().as_deref(), Some("began"));
    assert!(stage.next().is_some_and(|text| text.contains("closed")));

    let mut stranger = UnixStream::connect(&stage.path).expect("the door");
    stranger.write_all(b"GET / HTTP/1.1\r\n").expect("it can be sent");
    assert!(stage.next().is_some_and(|text| text.contains("another version")));
    stage.serves("after a stranger");
}

#[test]
fn the_sockets_are_the_successors_once_it_has_taken_over() {
    let stage = Stage::new();
    let mut old = stage.test_gateway.client();
    let (mut predecessor, sockets) = handover::connect(&stage.path).expect("an answer").expect("a gateway");
    predecessor.stop_accepting().expect("it stops");
    let waiting = Client::connect(stage.address());
    predecessor.take().expect("in time");
    assert_eq!(stage.next().as_deref(), Some("began"));
    assert_eq!(stage.next(), None);
    // The kernel has put it into one of the queues.
    let accepted = sockets.iter().any(|socket: &TcpListener| {
        socket.set_nonblocking(true).expect("a socket");
        socket.accept().is_ok()
    });
    assert!(accepted, "the connection that waited is the successor's");
    drop(waiting);
    // What was connected before is answered to the end.
    assert_eq!(old.post_buy(&order("u", "kept"), &[]).status, 202);
    stage.test_gateway.running().leave();
    let last = old.post_buy(&order("u", "last"), &[]);
    assert_eq!((last.status, last.header("connection")), (202, Some("close")));
    old.expect_closed();
    testkit::wait_until("nobody is connected", DEADLINE, || {
        stage.test_gateway.running().open_connections() == 0
    });
    drop(sockets);
    testkit::wait_until("nobody holds them any more", DEADLINE, || {
        std::net::TcpStream::connect(stage.address()).is_err()
    });
}

#[test]
fn requests_pipelined_before_the_leave_are_all_answered() {
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
fn a_file_without_a_gateway_is_nobody() {
    let dir = TempDir::new("handover");
    let path = dir.path().join("gateway.sock");
    assert!(handover::connect(&path).expect("no file").is_none());
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(handover::connect(&path).expect("a file that was left").is_none());
    let door = Door::bind(&path).expect("a door beside it");
    door.publish().expect("in its place");
    assert_eq!(mode(&path), 0o600);
}
