//! Property: gateway and processor notify a service manager when they are healthy and when they stop, through a socket with a
//! path or an abstract name; a gateway serves on the sockets passed to it, and after it has stopped, connections wait in
//! them for the next one. Method: the test acts as the service manager and holds the datagram and listening sockets.

// The socket gets its descriptor number between fork and exec.
#![allow(unsafe_code)]

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::child::{self, Guarded, Signal};
use testkit::http::Client;
use testkit::{TempDir, free_port};

const DEADLINE: Duration = Duration::from_secs(30);

/// Reads datagrams until one contains the line, and returns it.
fn wait_for(manager: &UnixDatagram, line: &str) -> String {
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut buffer = [0; 1024];
    loop {
        let bytes =
            manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{line} did not arrive: {error}"));
        let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if text.lines().any(|found| found == line) {
            return text;
        }
    }
}

/// `flash-sale <subcommand>` with embedded services and the address of its manager.
fn command(subcommand: &str, manager: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .args([subcommand, "--redis-addr", "embedded", "--kafka-addr", "embedded"])
        .env("NOTIFY_SOCKET", manager)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn stop_cleanly(mut process: Guarded, manager: &UnixDatagram) {
    process.signal(Signal::Terminate).expect("it is still running");
    wait_for(manager, "STOPPING=1");
    assert_eq!(process.wait().expect("it exits").code(), Some(0));
}

#[test]
fn both_services_notify_ready_and_stopping() {
    let dir = TempDir::new("notify");
    let path = dir.path().join("notify.sock");
    let by_path = UnixDatagram::bind(&path).expect("a socket");
    let name = format!("flash-sale-test-{}", free_port());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let by_name = UnixDatagram::bind_addr(&address).expect("a socket");

    let mut gateway = command("gateway", path.to_str().expect("UTF-8"));
    gateway.args(["--listen-addr", &format!("127.0.0.1:{}", free_port())]);
    let gateway = child::spawn(gateway).expect("it starts");
    let ready = wait_for(&by_path, "READY=1");
    assert!(ready.lines().any(|line| line == format!("MAINPID={}", gateway.pid())), "{ready}");
    stop_cleanly(gateway, &by_path);

    let mut processor = command("processor", &format!("@{name}"));
    processor.args(["--metrics-addr", &format!("127.0.0.1:{}", free_port())]);
    let processor = child::spawn(processor).expect("it starts");
    wait_for(&by_name, "READY=1");
    stop_cleanly(processor, &by_name);
}

#[test]
fn gateway_serves_on_passed_sockets_and_keeps_their_queues() {
    let dir = TempDir::new("activation");
    let path = dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let start = || {
        // LISTEN_PID must be the pid of the serving process, which only that process knows: a shell sets it and execs.
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                "export LISTEN_PID=$$; exec \"$0\" gateway --redis-addr embedded --kafka-addr embedded",
            ])
            .arg(env!("CARGO_BIN_EXE_flash-sale"))
            .env("NOTIFY_SOCKET", &path)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "http")
            // Must not be bound: the passed socket has another address.
            .env("LISTEN_ADDR", "127.0.0.1:1")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let descriptor = socket.as_raw_fd();
        let pass = move || {
            // SAFETY: between fork and exec only dup2(2) and fcntl(2) are called, on descriptors that the test keeps open.
            let is_passed =
                unsafe { libc::dup2(descriptor, 3) == 3 && libc::fcntl(3, libc::F_SETFD, 0) == 0 };
            if is_passed { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: as above.
        unsafe { shell.pre_exec(pass) };
        child::spawn(shell).expect("it starts")
    };
    let first = start();
    wait_for(&manager, "READY=1");
    assert_eq!(Client::connect(address).get("/health").status, 200);
    stop_cleanly(first, &manager);
    // No process accepts: the kernel queues the connection.
    let mut waiting = Client::connect(address);
    waiting.read_timeout(DEADLINE);
    let second = start();
    assert_eq!(waiting.get("/live").status, 200);
    stop_cleanly(second, &manager);
}
