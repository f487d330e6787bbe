//! Hands the listening sockets of a running gateway to its successor (`HANDOVER_SOCKET`), without a refused or reset
//! connection.
//!
//! The successor receives the sockets themselves (`SCM_RIGHTS`, unix(7)), that is, the same open file descriptions.
//! Connections in an accept queue therefore outlive the process that would have accepted them. Only one of the two
//! gateways accepts at any time; during the switch, connections wait in the queue. Messages are 8 bytes: `FSH1`, kind, 0,
//! count.
//!
//! | successor | predecessor |
//! |---|---|
//! | `Hello` | |
//! | | `Offer(n)`, then `Sockets(k)` with k descriptors until there are n |
//! | starts its cores on them, waits for Redis and Kafka, `Ready` | keeps serving |
//! | | stops accepting, `Stopped` |
//! | `Taking`, then accepts | leaves: answers existing connections, then exits with 0 |
//!
//! After any failure before `Taking` (a message that does not arrive in time, an exit of the successor, `Refused`) the
//! predecessor keeps serving as before. If the predecessor exits meanwhile, the successor keeps the sockets.
//!
//! Everything here blocks, with a bound: it runs on the main thread at startup and on a separate thread afterwards, never
//! on a core. Access is controlled by the socket's file mode, 0600.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// How long a successor may take until it is connected to Redis and Kafka.
pub const HEALTHY_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the predecessor waits for that and for the start of the successor's cores.
const READY_TIME_MAX: Duration = Duration::from_secs(40);
/// Timeout for every other message: it is sent at once, except that a busy core may finish a tick first.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Interval between the attempts of a successor whose predecessor has just been replaced by another one.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum sockets handed over: one listener per core, and at most 255 cores.
const SOCKETS_MAX: usize = 255;
/// Maximum descriptors of one message; the kernel allows 253 (`SCM_MAX_FD`).
const SOCKETS_PER_MESSAGE: usize = 64;
const MESSAGE_BYTES: usize = 8;
/// Identifies the protocol and its version: another version uses another word.
const MAGIC: [u8; 4] = *b"FSH1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Hello = 1,
    Offer = 2,
    Sockets = 3,
    Ready = 4,
    Stopped = 5,
    Taking = 6,
    Refused = 7,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    kind: Kind,
    /// Number of sockets for `Offer` and `Sockets`, otherwise 0.
    count: u16,
}

impl Message {
    const fn of(kind: Kind) -> Self {
        Self { kind, count: 0 }
    }

    fn encode(self) -> [u8; MESSAGE_BYTES] {
        let [a, b, c, d] = MAGIC;
        let [high, low] = self.count.to_be_bytes();
        [a, b, c, d, self.kind as u8, 0, high, low]
    }

    fn decode(bytes: [u8; MESSAGE_BYTES]) -> Result<Self, HandoverError> {
        let [a, b, c, d, kind, zero, high, low] = bytes;
        let kinds = [
            Kind::Hello,
            Kind::Offer,
            Kind::Sockets,
            Kind::Ready,
            Kind::Stopped,
            Kind::Taking,
            Kind::Refused,
        ];
        let kind = kinds.into_iter().find(|known| *known as u8 == kind);
        let count = u16::from_be_bytes([high, low]);
        match kind {
            Some(kind) if [a, b, c, d] == MAGIC && zero == 0 && usize::from(count) <= SOCKETS_MAX => {
                Ok(Self { kind, count })
            }
            _ => Err(HandoverError::Protocol("the other side uses another version of the protocol")),
        }
    }
}

/// Why the handover failed.
#[derive(Debug)]
pub enum HandoverError {
    /// The other side closed the connection or exited.
    Closed,
    /// The other side refused: it could not stop accepting, or the timeout had passed.
    Refused,
    /// The other side violated the protocol.
    Protocol(&'static str),
    /// The socket failed, or nothing arrived in time.
    Io(io::Error),
}

impl fmt::Display for HandoverError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("the other gateway closed the connection"),
            Self::Refused => formatter.write_str("the other gateway refused the handover"),
            Self::Protocol(what) => formatter.write_str(what),
            Self::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                formatter.write_str("the other gateway did not answer in time")
            }
            Self::Io(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for HandoverError {}

impl From<io::Error> for HandoverError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for HandoverError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

fn send(mut stream: &UnixStream, message: Message) -> Result<(), HandoverError> {
    Ok(stream.write_all(&message.encode())?)
}

fn receive(mut stream: &UnixStream, timeout: Duration) -> Result<Message, HandoverError> {
    stream.set_read_timeout(Some(timeout))?;
    let mut bytes = [0; MESSAGE_BYTES];
    stream.read_exact(&mut bytes)?;
    Message::decode(bytes)
}

fn expect(stream: &UnixStream, kind: Kind, timeout: Duration) -> Result<Message, HandoverError> {
    let message = receive(stream, timeout)?;
    match message.kind {
        found if found == kind => Ok(message),
        Kind::Refused => Err(HandoverError::Refused),
        _ => Err(HandoverError::Protocol("the other gateway sent a message out of order")),
    }
}

fn send_sockets(stream: &UnixStream, sockets: &[TcpListener]) -> Result<(), HandoverError> {
    send(stream, Message { kind: Kind::Offer, count: sockets.len() as u16 })?;
    for chunk in sockets.chunks(SOCKETS_PER_MESSAGE) {
        let bytes = Message { kind: Kind::Sockets, count: chunk.len() as u16 }.encode();
        let descriptors: Vec<BorrowedFd<'_>> = chunk.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(HandoverError::Protocol("too many sockets for one message"));
        }
        // A stream socket with free space takes all 8 bytes or none.
        let sent =
            rustix::net::sendmsg(stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        if sent != MESSAGE_BYTES {
            return Err(HandoverError::Protocol("a message was truncated"));
        }
    }
    Ok(())
}

fn receive_sockets(stream: &UnixStream) -> Result<Vec<TcpListener>, HandoverError> {
    let wanted = usize::from(expect(stream, Kind::Offer, ANSWER_TIME_MAX)?.count);
    let mut sockets = Vec::with_capacity(wanted);
    while sockets.len() < wanted {
        let mut bytes = [0; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let read = rustix::net::recvmsg(stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if read == 0 {
            return Err(HandoverError::Closed);
        }
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let message = Message::decode(bytes)?;
        let is_whole = read == MESSAGE_BYTES && message.kind == Kind::Sockets;
        if !is_whole || descriptors.is_empty() || descriptors.len() != usize::from(message.count) {
            return Err(HandoverError::Protocol("the other gateway sent other sockets than it announced"));
        }
        for descriptor in descriptors {
            if !SockRef::from(&descriptor).is_listener()? {
                return Err(HandoverError::Protocol(
                    "the other gateway sent a descriptor that is not a listening socket",
                ));
            }
            sockets.push(TcpListener::from(descriptor));
        }
    }
    if sockets.is_empty() {
        return Err(HandoverError::Protocol("the other gateway has no sockets to hand over"));
    }
    Ok(sockets)
}

/// A running gateway that has shared its sockets and still serves.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    /// It has exited meanwhile, so the sockets are only ours.
    is_gone: bool,
}

/// Requests the sockets of the gateway at `path`; `None` when no gateway listens there (no file, or a stale one).
///
/// # Errors
/// A gateway listens there but did not send its sockets; it keeps serving.
pub fn connect(path: &Path) -> Result<Option<(Predecessor, Vec<TcpListener>)>, HandoverError> {
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    loop {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        let sockets = send(&stream, Message::of(Kind::Hello)).and_then(|()| receive_sockets(&stream));
        match sockets {
            Ok(sockets) => return Ok(Some((Predecessor { stream, is_gone: false }, sockets))),
            // It was handing over to another successor, which listens at the path by now.
            Err(HandoverError::Closed) if Instant::now() < deadline => thread::sleep(RETRY_INTERVAL),
            Err(error) => return Err(error),
        }
    }
}

impl Predecessor {
    /// Asks it to stop accepting and waits until it has. No process accepts from then until [`Predecessor::take`].
    ///
    /// # Errors
    /// It refused or did not answer, and keeps serving.
    pub fn stop_accepting(&mut self) -> Result<(), HandoverError> {
        let stopped = send(&self.stream, Message::of(Kind::Ready))
            // Twice the timeout: its cores have one timeout to stop.
            .and_then(|()| expect(&self.stream, Kind::Stopped, 2 * ANSWER_TIME_MAX));
        match stopped {
            Ok(_) => Ok(()),
            Err(HandoverError::Closed) => {
                self.is_gone = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tells it that the sockets are ours from now on. Accept right afterwards.
    ///
    /// # Errors
    /// Too late: it accepts again. Do not accept.
    pub fn take(self) -> Result<(), HandoverError> {
        if self.is_gone { Ok(()) } else { send(&self.stream, Message::of(Kind::Taking)) }
    }
}

/// The accepting side of a gateway, as needed by the handover.
pub trait Acceptor {
    /// Stops accepting on every core; true once no accept is pending.
    fn pause(&self, timeout: Duration) -> bool;
    /// Starts accepting again.
    fn resume(&self);
}

/// Progress of a handover, for the log and the supervisor.
#[derive(Debug)]
pub enum Progress {
    /// A successor has connected and receives the sockets.
    Began,
    /// The handover failed; this gateway keeps serving.
    Failed(HandoverError),
}

/// The Unix socket to which successors connect. It is first bound under a temporary name, so that the path always leads
/// to a gateway that can hand over.
#[derive(Debug)]
pub struct HandoverListener {
    listener: UnixListener,
    temporary: PathBuf,
    path: PathBuf,
}

impl HandoverListener {
    /// Binds under a temporary name next to `path`, accessible to this user only.
    ///
    /// # Errors
    /// Those of bind(2): the directory does not exist or is not writable.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        // Left over from a process with the same pid that was killed between bind and rename.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // bind(2) creates the file with the socket's current mode, so it is never accessible to others.
        let file = std::fs::File::from(OwnedFd::from(socket));
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        let socket = Socket::from(OwnedFd::from(file));
        socket.bind(&SockAddr::unix(&temporary)?)?;
        socket.listen(4)?;
        let listener = UnixListener::from(OwnedFd::from(socket));
        Ok(Self { listener, temporary, path: path.to_owned() })
    }

    /// Moves it to its path, replacing a predecessor's.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn publish(&self) -> io::Result<()> {
        std::fs::rename(&self.temporary, &self.path)
    }

    /// Serves successors one after another and returns when one has taken `sockets`. Blocks: call on a separate thread.
    pub fn serve(&self, sockets: &[TcpListener], acceptor: &dyn Acceptor, report: &mut dyn FnMut(Progress)) {
        for stream in self.listener.incoming() {
            match stream
                .map_err(HandoverError::from)
                .and_then(|stream| hand_over(&stream, sockets, acceptor, report))
            {
                Ok(()) => return,
                Err(error) => {
                    report(Progress::Failed(error));
                    // A failing accept returns at once: do not spin.
                    thread::sleep(RETRY_INTERVAL);
                }
            }
        }
    }
}

impl Drop for HandoverListener {
    fn drop(&mut self) {
        // The file still exists only if it was never published.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// The predecessor's side of one handover; Ok when the successor owns the sockets.
fn hand_over(
    stream: &UnixStream,
    sockets: &[TcpListener],
    acceptor: &dyn Acceptor,
    report: &mut dyn FnMut(Progress),
) -> Result<(), HandoverError> {
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    expect(stream, Kind::Hello, ANSWER_TIME_MAX)?;
    report(Progress::Began);
    send_sockets(stream, sockets)?;
    if let Err(error) = expect(stream, Kind::Ready, READY_TIME_MAX) {
        // Otherwise it would mistake the closed connection for an exit of this process.
        let _ = send(stream, Message::of(Kind::Refused));
        return Err(error);
    }
    let taken = if acceptor.pause(ANSWER_TIME_MAX) {
        send(stream, Message::of(Kind::Stopped)).and_then(|()| taken(stream))
    } else {
        let _ = send(stream, Message::of(Kind::Refused));
        Err(HandoverError::Protocol("a core did not stop accepting in time"))
    };
    if taken.is_err() {
        acceptor.resume();
    }
    taken
}

/// Waits for `Taking`. After the timeout the connection is shut down, so that the successor can no longer send it: either
/// the message has arrived by then, or the successor's send fails and it knows that it was too late.
fn taken(stream: &UnixStream) -> Result<(), HandoverError> {
    match expect(stream, Kind::Taking, ANSWER_TIME_MAX) {
        Err(HandoverError::Io(_)) => {}
        outcome => return outcome.map(drop),
    }
    // From now on a send of the other side fails with EPIPE; earlier bytes can still be read.
    stream.shutdown(std::net::Shutdown::Both)?;
    expect(stream, Kind::Taking, ANSWER_TIME_MAX).map(drop)
}
