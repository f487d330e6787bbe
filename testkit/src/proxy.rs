//! A fault-injecting TCP proxy between a client and its server. Faults can be switched while it runs.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Maximum bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;
/// Maximum chunks buffered per direction of a connection: 4 MiB. Beyond that the sender is blocked.
const CHUNKS_MAX: usize = 64;

/// A TCP proxy on a free port of 127.0.0.1. It starts in the passing state. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    stalled: bool,
    refusing: bool,
    delay: Duration,
    is_closing: bool,
    /// Number of cuts so far. A connection opened before the latest cut stops forwarding.
    cuts: u64,
    /// Bytes left until the connection that moves the last of them is cut; `None` if no cut is scheduled.
    bytes_to_cut: Option<usize>,
    /// Open connections. Closed ones are pruned when the next one is opened.
    open: Vec<Arc<Pair>>,
}

/// Both sockets of a connection: the client's and the server's.
#[derive(Debug)]
struct Pair {
    sockets: [TcpStream; 2],
    /// Closed without a FIN: dropping the last reference then sends a RST.
    is_reset: AtomicBool,
}

impl Proxy {
    /// Opens a proxy to `target` (`host:port`). It connects to the target for each connection; the target need not be
    /// up yet.
    ///
    /// # Panics
    /// When no port is free or no thread can be started.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            stalled: false,
            refusing: false,
            delay: Duration::ZERO,
            is_closing: false,
            cuts: 0,
            bytes_to_cut: None,
            open: Vec::new(),
        };
        let shared =
            Arc::new(Shared { target: target.to_owned(), state: Mutex::new(state), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        let acceptor = thread("proxy-accept", move || accept_loop(&listener, &for_thread));
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// `127.0.0.1:port` to give to the client.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// Ends stalling, refusing and delay: held bytes are forwarded, new connections are accepted.
    pub fn pass(&self) {
        self.change(|state| {
            state.stalled = false;
            state.refusing = false;
            state.delay = Duration::ZERO;
        });
    }

    /// Holds all bytes in both directions; connections stay open and new ones are accepted. Nothing is lost:
    /// after [`Proxy::pass`] the held bytes arrive in order.
    pub fn stall(&self) {
        self.change(|state| state.stalled = true);
    }

    /// Closes all open connections; bytes held in them are lost. New connections are treated as before.
    pub fn cut(&self) {
        let open = self.change(|state| {
            state.cuts += 1;
            std::mem::take(&mut state.open)
        });
        for pair in open {
            pair.close();
        }
    }

    /// Resets all open connections (RST instead of FIN); bytes held in them are lost. New connections are treated as
    /// before.
    pub fn reset(&self) {
        // They stay in the list, so that dropping the proxy closes even a connection whose peer reads no more bytes.
        let open = self.change(|state| {
            state.cuts += 1;
            state.open.clone()
        });
        for pair in open {
            pair.reset();
        }
    }

    /// Lets `bytes` more bytes through, counted over both directions of all connections, then cuts the connection
    /// that moved the last of them, so that its peers have seen only part of a message.
    pub fn cut_after(&self, bytes: usize) {
        self.change(|state| state.bytes_to_cut = Some(bytes));
    }

    /// Accepts new connections and closes them at once; open ones are not affected (use [`Proxy::cut`] for them).
    pub fn refuse(&self) {
        self.change(|state| state.refusing = true);
    }

    /// Delays each byte by `ms` milliseconds in both directions, so a round trip takes twice that much longer.
    /// Throughput is not limited. 0 ends the delay.
    pub fn delay_ms(&self, ms: u64) {
        self.change(|state| state.delay = Duration::from_millis(ms));
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        let mut state = self.shared.lock();
        prune(&mut state.open);
        state.open.len()
    }

    fn change<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        let result = edit(&mut self.shared.lock());
        self.shared.changed.notify_all();
        result
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.is_closing = true);
        self.cut();
        // Wakes the acceptor from accept(2); it then sees `is_closing`.
        drop(TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.lock().is_closing {
            return;
        }
        // The client disconnected before it was accepted.
        let Ok(client) = client else { continue };
        if shared.lock().refusing {
            continue;
        }
        // The server is down. Through a proxy, a refused connection looks like a closed one.
        let Ok(server) = TcpStream::connect(&shared.target) else { continue };
        open(client, server, shared);
    }
}

fn open(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    client.set_nodelay(true).expect("nodelay on an open socket");
    server.set_nodelay(true).expect("nodelay on an open socket");
    let pair = Arc::new(Pair { sockets: [client, server], is_reset: AtomicBool::new(false) });
    let cuts = {
        let mut state = shared.lock();
        if state.is_closing {
            return;
        }
        prune(&mut state.open);
        state.open.push(Arc::clone(&pair));
        state.cuts
    };
    for (from, to) in [(0, 1), (1, 0)] {
        let (chunks_in, chunks_out) = sync_channel(CHUNKS_MAX);
        let (reader_pair, reader_shared) = (Arc::clone(&pair), Arc::clone(shared));
        thread("proxy-read", move || read_side(&reader_pair.sockets[from], &reader_shared, &chunks_in));
        let (writer_pair, writer_shared) = (Arc::clone(&pair), Arc::clone(shared));
        thread("proxy-write", move || write_side(&writer_pair, to, &writer_shared, cuts, &chunks_out));
    }
}

/// Bytes and the time when they are to be delivered; an empty chunk is the end of the stream.
type Chunk = (Instant, Vec<u8>);

fn read_side(mut from: &TcpStream, shared: &Shared, chunks: &SyncSender<Chunk>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // A reset counts as the end of the stream: the other side then sees a close.
        let filled = from.read(&mut buffer).unwrap_or(0);
        let due = Instant::now() + shared.lock().delay;
        if chunks.send((due, buffer[..filled].to_vec())).is_err() || filled == 0 {
            return;
        }
    }
}

fn write_side(pair: &Pair, to: usize, shared: &Shared, cuts: u64, chunks: &Receiver<Chunk>) {
    let mut socket = &pair.sockets[to];
    for (due, mut bytes) in chunks {
        if !wait_until_due(shared, cuts, due) {
            break;
        }
        if bytes.is_empty() {
            // Forward the half-close; the other direction continues until it ends as well.
            drop(socket.shutdown(Shutdown::Write));
            return;
        }
        let cut_at = bytes_before_cut(shared, bytes.len());
        bytes.truncate(cut_at.unwrap_or(usize::MAX));
        if socket.write_all(&bytes).is_err() || cut_at.is_some() {
            break;
        }
    }
    pair.close();
}

/// How many of these bytes may pass before the connection is cut; `None` if it is not cut within them.
fn bytes_before_cut(shared: &Shared, bytes: usize) -> Option<usize> {
    let mut state = shared.lock();
    let left = state.bytes_to_cut?;
    state.bytes_to_cut = left.checked_sub(bytes).filter(|&left| left > 0);
    state.bytes_to_cut.is_none().then_some(left.min(bytes))
}

/// Waits until `due` and while the proxy is stalled; false if the connection was cut meanwhile.
fn wait_until_due(shared: &Shared, cuts: u64, due: Instant) -> bool {
    let mut state = shared.lock();
    loop {
        if state.cuts != cuts || state.is_closing {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        state = if state.stalled {
            shared.changed.wait(state).expect("no holder of this lock panics")
        } else if left.is_zero() {
            return true;
        } else {
            shared.changed.wait_timeout(state, left).expect("no holder of this lock panics").0
        };
    }
}

impl Pair {
    fn close(&self) {
        // Relaxed: set before the reader is woken, and only that wake-up leads here.
        if self.is_reset.load(Ordering::Relaxed) {
            return;
        }
        for socket in &self.sockets {
            drop(socket.shutdown(Shutdown::Both));
        }
    }

    /// Makes the threads drop the sockets; closing them then sends a RST.
    fn reset(&self) {
        self.is_reset.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            linger_zero(socket);
            drop(socket.shutdown(Shutdown::Read));
        }
    }
}

#[expect(unsafe_code, reason = "std has no stable API for SO_LINGER")]
fn linger_zero(socket: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and setsockopt(2) reads `linger`, which outlives the
    // call, for exactly its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "SO_LINGER on an open socket");
}

/// Removes connections whose four threads have ended: then the list holds the last reference.
fn prune(open: &mut Vec<Arc<Pair>>) {
    open.retain(|pair| Arc::strong_count(pair) > 1);
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread can be started")
}
