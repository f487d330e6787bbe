//! Administers topics with single requests: `testkit` needs no client library, and a test sees the broker's error code
//! directly.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Timeout of the broker; the read timeout is one second longer.
const TIMEOUT_MS: i32 = 10_000;

const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const CREATE_PARTITIONS: i16 = 37;

/// Creates a topic with one replica.
///
/// # Errors
/// The socket's, or the broker's error code.
pub fn create(bootstrap: &str, topic: &str, partitions: i32) -> io::Result<()> {
    let mut body = Body::default();
    body.int(1).text(topic).int(partitions).short(1).int(0).int(0).int(TIMEOUT_MS).byte(0);
    body.send(bootstrap, CREATE_TOPICS, 2)
}

/// Deletes a topic with all its records.
///
/// # Errors
/// As [`create`].
pub fn delete(bootstrap: &str, topic: &str) -> io::Result<()> {
    let mut body = Body::default();
    body.int(1).text(topic).int(TIMEOUT_MS);
    body.send(bootstrap, DELETE_TOPICS, 1)
}

/// Increases the number of partitions of a topic to `partitions`.
///
/// # Errors
/// As [`create`].
pub fn add_partitions(bootstrap: &str, topic: &str, partitions: i32) -> io::Result<()> {
    let mut body = Body::default();
    body.int(1).text(topic).int(partitions).int(-1).int(TIMEOUT_MS).byte(0);
    body.send(bootstrap, CREATE_PARTITIONS, 0)
}

/// The body of a request in Kafka's old encoding (not the flexible one): big-endian numbers, length-prefixed strings.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn short(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn int(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn text(&mut self, value: &str) -> &mut Self {
        self.short(value.len() as i16);
        self.0.extend(value.as_bytes());
        self
    }

    /// Sends the request for one topic and reads the error code of that topic. All three responses begin with the same
    /// fields: throttle time, one element, its name, its error code.
    fn send(&self, bootstrap: &str, api: i16, version: i16) -> io::Result<()> {
        let mut request = Self::default();
        // Any correlation id will do: this is the only request on the connection.
        request.short(api).short(version).int(1).text("testkit");
        request.0.extend(&self.0);
        let mut stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(Duration::from_millis(TIMEOUT_MS as u64 + 1000)))?;
        stream.write_all(&(request.0.len() as i32).to_be_bytes())?;
        stream.write_all(&request.0)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut response = vec![0; i32::from_be_bytes(length).clamp(0, 1 << 20) as usize];
        stream.read_exact(&mut response)?;
        match error_code(&response) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::other(format!("Kafka error code {code}"))),
            None => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("unexpected response {response:?}")))
            }
        }
    }
}

/// The error code follows correlation id, throttle time, number of elements and topic name.
fn error_code(response: &[u8]) -> Option<i16> {
    let short = |at: usize| Some(i16::from_be_bytes([*response.get(at)?, *response.get(at + 1)?]));
    let name = usize::try_from(short(12)?).ok()?;
    short(14 + name)
}

#[cfg(test)]
mod tests {
    use super::error_code;

    #[test]
    fn error_code_is_read_after_the_topic_name() {
        let response = b"\0\0\0\x01\0\0\0\0\0\0\0\x01\0\x06orders\0\x24";
        assert_eq!(error_code(response), Some(36));
        assert_eq!(error_code(&response[..19]), None);
    }
}
