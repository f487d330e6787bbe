//! Property: the proxy forwards bytes unchanged, and each fault works as documented while connections are open.
//! Method: an echo server behind the proxy on port 0, a plain TCP client in front of it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use testkit::proxy::Proxy;
use testkit::{free_port, wait_until};

/// Echoes every connection until it ends, then closes it. Runs as long as the test process.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound listener has an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    addr
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).expect("the proxy listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
    stream
}

fn echo(mut stream: &TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text);
    Ok(())
}

#[test]
fn passes_a_megabyte_and_a_half_close() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let for_thread = sent.clone();
    let sender = std::thread::spawn(move || {
        writer.write_all(&for_thread).expect("the proxy accepts bytes");
        writer.shutdown(Shutdown::Write).expect("the sending side can be closed");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the echo and the end of the stream arrive");
    assert!(back == sent, "{} bytes came back changed", back.len());
    sender.join().expect("the sender does not panic");
    wait_until("the closed connection to be removed", Duration::from_secs(10), || proxy.connections() == 0);
}

#[test]
fn stall_holds_bytes_and_pass_releases_them() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    echo(&stream, b"before").expect("it passes");
    proxy.stall();
    stream.write_all(b"held").expect("the proxy accepts bytes");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout above zero");
    let mut back = [0; 4];
    assert!(stream.read(&mut back).is_err(), "a stalled proxy let bytes through");
    proxy.pass();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout above zero");
    stream.read_exact(&mut back).expect("the held bytes arrive");
    assert_eq!(&back, b"held");
}

#[test]
fn cut_closes_open_connections_and_accepts_new_ones() {
    let proxy = Proxy::start(&echo_server());
    let stream = connect(&proxy);
    echo(&stream, b"before").expect("it passes");
    proxy.cut();
    assert!(echo(&stream, b"after").is_err(), "a cut connection still works");
    echo(&connect(&proxy), b"new").expect("a new connection passes");
}

#[test]
fn cut_frees_a_stalled_connection() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    echo(&stream, b"before").expect("it passes");
    proxy.stall();
    stream.write_all(b"lost").expect("the proxy accepts bytes");
    proxy.cut();
    let mut back = [0; 4];
    assert!(matches!(stream.read(&mut back), Ok(0) | Err(_)), "a cut connection still works");
    wait_until("the cut connection's threads to end", Duration::from_secs(10), || proxy.connections() == 0);
}

#[test]
fn refuse_closes_new_connections_until_pass() {
    let proxy = Proxy::start(&echo_server());
    let old = connect(&proxy);
    echo(&old, b"before").expect("it passes");
    proxy.refuse();
    assert!(echo(&connect(&proxy), b"new").is_err(), "a refusing proxy accepted a new connection");
    echo(&old, b"old").expect("open connections are not affected");
    proxy.pass();
    echo(&connect(&proxy), b"new").expect("it passes again");
}

#[test]
fn delay_applies_in_each_direction() {
    let proxy = Proxy::start(&echo_server());
    let stream = connect(&proxy);
    echo(&stream, b"before").expect("it passes");
    proxy.delay_ms(50);
    let start = Instant::now();
    echo(&stream, b"slow").expect("it passes, slowly");
    assert!(start.elapsed() >= Duration::from_millis(100), "too fast: {:?}", start.elapsed());
}

#[test]
fn unreachable_server_looks_like_a_close() {
    let proxy = Proxy::start(&format!("127.0.0.1:{}", free_port()));
    assert!(echo(&connect(&proxy), b"x").is_err(), "the server is unreachable");
}
