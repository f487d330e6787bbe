//! A raw HTTP/1.1 client: it sends exactly the given bytes, even malformed ones, and parses responses strictly.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Default read timeout; far beyond any response time the contract allows. (The server's own limit for a slow
/// request is 10 s; tests of that limit set [`Client::read_timeout`].)
const READ_S: u64 = 10;
/// Maximum size of a response head. A head has a few hundred bytes; a larger one is a server error.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One connection. Requests may be pipelined: send several, then read as many responses.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    host: String,
    /// Bytes received but not yet returned as a response.
    received: Vec<u8>,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header names as sent, values without surrounding blanks, in order.
    pub headers: Vec<(String, String)>,
    /// Body, exactly `Content-Length` bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first header with this name (case-insensitive).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

impl Client {
    /// Connects; reads time out after 10 s.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn connect(addr: impl ToSocketAddrs + std::fmt::Display) -> Self {
        let host = addr.to_string();
        let stream = TcpStream::connect(addr).unwrap_or_else(|e| panic!("cannot connect to {host}: {e}"));
        Self::of(stream, host)
    }

    /// Uses a connection opened by the caller, for example from another address; reads time out after 10 s.
    ///
    /// # Panics
    /// When it is closed already.
    pub fn over(stream: TcpStream) -> Self {
        let host = stream.peer_addr().expect("it is connected").to_string();
        Self::of(stream, host)
    }

    fn of(stream: TcpStream, host: String) -> Self {
        stream.set_nodelay(true).expect("nodelay on an open socket");
        let client = Self { stream, host, received: Vec::new() };
        client.read_timeout(Duration::from_secs(READ_S));
        client
    }

    /// Changes the read timeout.
    ///
    /// # Panics
    /// When `timeout` is zero.
    pub fn read_timeout(&self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("a timeout above zero");
    }

    /// Sends these bytes and nothing else.
    ///
    /// # Panics
    /// When the connection is broken; where the server may close early, use [`Client::try_send_raw`].
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).expect("the server accepts the bytes");
    }

    /// As [`Client::send_raw`], for servers that may already have closed.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a `POST /buy` with this body, valid JSON or not, and reads the response. `headers` are added
    /// unchanged.
    ///
    /// # Panics
    /// When no complete response arrives within the read timeout.
    pub fn post_buy(&mut self, json: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.buy_request(json, headers);
        self.send_raw(&request);
        self.read_response()
    }

    /// The bytes of a `POST /buy`, for pipelining or for cutting into pieces.
    pub fn buy_request(&self, json: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut request = format!(
            "POST /buy HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            self.host,
            json.len()
        );
        for (name, value) in headers {
            request.push_str(name);
            request.push_str(": ");
            request.push_str(value);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request.push_str(json);
        request.into_bytes()
    }

    /// Sends a `GET` of this path and reads the response.
    ///
    /// # Panics
    /// When no complete response arrives within the read timeout.
    pub fn get(&mut self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.send_raw(request.as_bytes());
        self.read_response()
    }

    /// As [`Client::get`]; `None` when the server closes the connection instead of responding.
    pub fn try_get(&mut self, path: &str) -> Option<Response> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.try_send_raw(request.as_bytes()).ok()?;
        self.try_read_response().ok()?
    }

    /// Closes the sending side (FIN); responses can still be read.
    ///
    /// # Panics
    /// When the connection is already broken.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the sending side can be closed once");
    }

    /// The next response.
    ///
    /// # Panics
    /// When no complete response arrives within the read timeout, it is malformed, or the server closes the connection.
    pub fn read_response(&mut self) -> Response {
        let next = self.next(true);
        self.whole(next)
    }

    /// The next response, to a HEAD request: it has a Content-Length but no body.
    ///
    /// # Panics
    /// As [`Client::read_response`].
    pub fn read_head(&mut self) -> Response {
        let next = self.next(false);
        self.whole(next)
    }

    fn whole(&self, next: io::Result<Option<Response>>) -> Response {
        match next {
            Ok(Some(response)) => response,
            Ok(None) => panic!("the server closed the connection instead of responding"),
            Err(e) => {
                panic!("no response: {e}; received so far: {:?}", String::from_utf8_lossy(&self.received))
            }
        }
    }

    /// The next response, or `None` when the server has closed the connection between two responses (FIN, or a
    /// reset with nothing received).
    ///
    /// # Errors
    /// `UnexpectedEof` inside a response, `InvalidData` for a malformed one, `WouldBlock` or `TimedOut` after
    /// the read timeout.
    pub fn try_read_response(&mut self) -> io::Result<Option<Response>> {
        self.next(true)
    }

    fn next(&mut self, has_body: bool) -> io::Result<Option<Response>> {
        let head_end = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(bad("a head without an end"));
            }
            if !self.receive()? {
                return if self.received.is_empty() { Ok(None) } else { Err(eof()) };
            }
        };
        let (status, headers) = parse_head(&self.received[..head_end - 4])?;
        let mut response = Response { status, headers, body: Vec::new() };
        let body_bytes = body_len(&response)? * usize::from(has_body);
        while self.received.len() < head_end + body_bytes {
            if !self.receive()? {
                return Err(eof());
            }
        }
        response.body = self.received[head_end..head_end + body_bytes].to_vec();
        self.received.drain(..head_end + body_bytes);
        Ok(Some(response))
    }

    /// Asserts that the server closes the connection without sending another byte.
    ///
    /// # Panics
    /// When another response arrives, or nothing happens within the read timeout.
    pub fn expect_closed(&mut self) {
        match self.try_read_response() {
            Ok(None) => {}
            Ok(Some(response)) => panic!("a response instead of a close: {response:?}"),
            Err(e) => panic!("no close: {e}; received: {:?}", String::from_utf8_lossy(&self.received)),
        }
    }

    /// Reads once; false at the end of the stream.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(filled) => {
                self.received.extend_from_slice(&buffer[..filled]);
                Ok(true)
            }
            // A server that closes the connection with unread bytes sends a reset; here that counts as a close.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(e) => Err(e),
        }
    }
}

type Head = (u16, Vec<(String, String)>);

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(|_| bad("a head that is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let rest = status_line.strip_prefix("HTTP/1.1 ").ok_or_else(|| bad(status_line))?;
    let digits = rest.get(..3).ok_or_else(|| bad(status_line))?;
    let status = digits.parse().map_err(|_| bad(status_line))?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| bad(line))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(bad(line));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok((status, headers))
}

/// RFC 9112, 6.3: 1xx, 204 and 304 never have a body; any other response must have a Content-Length.
fn body_len(response: &Response) -> io::Result<usize> {
    if matches!(response.status, 100..=199 | 204 | 304) {
        return Ok(0);
    }
    let mut lengths = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, first) = lengths.next().ok_or_else(|| bad("a response without Content-Length"))?;
    if lengths.next().is_some() {
        return Err(bad("a response with two Content-Length"));
    }
    first.parse().map_err(|_| bad(first))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed response: {what:?}"))
}

fn eof() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection inside a response")
}
