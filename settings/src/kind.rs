//! Formats and accepted ranges of values.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The format of a setting, with its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// See [`RedisAddress`].
    Redis,
    /// See [`KafkaAddress`].
    Kafka,
    /// An address to listen on.
    Socket,
    /// A topic or group: 1..=249 of `[A-Za-z0-9._-]`, not `.` or `..` (Kafka's own rule).
    Topic,
    /// `250ms`, `30s`, `1m`, `24h`.
    Duration {
        /// Minimum, in milliseconds.
        min_ms: u64,
        /// Maximum, in milliseconds.
        max_ms: u64,
    },
    /// A whole number.
    Count {
        /// Minimum.
        min: u64,
        /// Maximum.
        max: u64,
    },
    /// 0 to 1.
    Ratio,
    /// on or off.
    Switch,
    /// See [`LogLevel`].
    Level,
    /// See [`Partitioner`].
    Partitioner,
    /// Path of a Unix socket: the kernel allows 107 bytes, of which the suffix of the temporary name needs up to 20.
    SocketPath,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => {
                formatter.write_str("host:port, redis://[user:password@]host:port[/db], or the word embedded")
            }
            Self::Kafka => formatter.write_str("host:port[,host:port…], or the word embedded"),
            Self::Socket => formatter.write_str("ip:port, such as 0.0.0.0:8080"),
            Self::Topic => formatter.write_str("1 to 249 characters of A-Z a-z 0-9 . _ -"),
            Self::Duration { min_ms, max_ms } => {
                write!(
                    formatter,
                    "{} to {}, written as 250ms, 30s, 1m or 24h",
                    Millis(*min_ms),
                    Millis(*max_ms)
                )
            }
            Self::Count { min, max } => write!(formatter, "a whole number from {min} to {max}"),
            Self::Ratio => formatter.write_str("a number from 0 to 1"),
            Self::Switch => formatter.write_str("on or off"),
            Self::Level => formatter.write_str("debug, info, warn or error"),
            Self::Partitioner => formatter.write_str("sticky or murmur2"),
            Self::SocketPath => formatter.write_str("an absolute path of at most 87 bytes"),
        }
    }
}

/// An absolute path short enough for a Unix socket and for its temporary name.
pub fn parse_socket_path(text: &str) -> Option<PathBuf> {
    const PATH_BYTES_MAX: usize = 87;
    let path = PathBuf::from(text);
    (path.is_absolute() && path.file_name().is_some() && text.len() <= PATH_BYTES_MAX).then_some(path)
}

/// Formats milliseconds as a setting, in the largest unit without a remainder.
pub struct Millis(pub u64);

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => formatter.write_str("0ms"),
            ms if ms % 3_600_000 == 0 => write!(formatter, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(formatter, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(formatter, "{}s", ms / 1000),
            ms => write!(formatter, "{ms}ms"),
        }
    }
}

/// The address of Redis.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// The in-memory store, in this process.
    Embedded,
    /// A server.
    Server {
        /// Host name or IP address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// ACL user, when given.
        user: Option<String>,
        /// Password, when given.
        password: Option<String>,
        /// Database number; 0 when not given.
        db: u32,
    },
}

impl fmt::Debug for RedisAddress {
    /// Hides the password, because settings are logged at startup.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("embedded"),
            Self::Server { host, port, user, password, db } => {
                formatter.write_str("redis://")?;
                if user.is_some() || password.is_some() {
                    write!(formatter, "{}:***@", user.as_deref().unwrap_or(""))?;
                }
                if host.contains(':') {
                    write!(formatter, "[{host}]")?;
                } else {
                    formatter.write_str(host)?;
                }
                write!(formatter, ":{port}/{db}")
            }
        }
    }
}

/// The address of Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaAddress {
    /// librdkafka's mock cluster, in this process.
    Embedded,
    /// A bootstrap list.
    Bootstrap(String),
}

impl fmt::Display for KafkaAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("embedded"),
            Self::Bootstrap(list) => formatter.write_str(list),
        }
    }
}

/// Minimum level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Each rejected order as well.
    Debug,
    /// One line per accepted order, and normal operation.
    Info,
    /// Events that need attention.
    Warn,
    /// Faults of the service itself.
    Error,
}

/// How the gateway chooses the partition of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// One partition per time slot, for full batches.
    Sticky,
    /// By the key (the user), like Java's default partitioner.
    Murmur2,
}

/// `None` when it is neither.
pub fn parse_partitioner(text: &str) -> Option<Partitioner> {
    match text.to_ascii_lowercase().as_str() {
        "sticky" => Some(Partitioner::Sticky),
        "murmur2" => Some(Partitioner::Murmur2),
        _ => None,
    }
}

/// `250ms`, `30s`, `1m`, `24h` or a bare `0`. `None` when it is not a duration.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 1,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

/// `None` when it is neither on nor off.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "1" | "yes" => Some(true),
        "off" | "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// `None` when it is not a level.
pub fn parse_level(text: &str) -> Option<LogLevel> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Some(LogLevel::Debug),
        "info" => Some(LogLevel::Info),
        "warn" | "warning" => Some(LogLevel::Warn),
        "error" => Some(LogLevel::Error),
        _ => None,
    }
}

/// Kafka's own rule for names.
pub fn is_topic(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&text.len()) && text != "." && text != ".." && text.bytes().all(legal)
}

/// An address to listen on; `:8080` means every interface, as in Go programs.
pub fn parse_socket(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?)));
    }
    text.parse().ok()
}

/// Splits `host:port`; the host may be a bracketed IPv6 address.
fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    let port: u16 = port.parse().ok().filter(|&port| port > 0)?;
    (!host.is_empty() && host.bytes().all(legal)).then(|| (host.to_owned(), port))
}

/// A bootstrap list, or `embedded`.
pub fn parse_kafka(text: &str) -> Option<KafkaAddress> {
    if text == "embedded" {
        return Some(KafkaAddress::Embedded);
    }
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    let all_legal = servers.iter().all(|server| host_port(server).is_some());
    all_legal.then(|| KafkaAddress::Bootstrap(servers.join(",")))
}

/// `host:port`, a redis URL, or `embedded`. The error contains a reason if there is one more specific than the format.
///
/// # Errors
/// `Some` when the scheme asks for TLS to Redis, which this build does not have.
pub fn parse_redis(text: &str) -> Result<RedisAddress, Option<&'static str>> {
    if text == "embedded" {
        return Ok(RedisAddress::Embedded);
    }
    if text.starts_with("rediss://") {
        return Err(Some("this build has no TLS to Redis; use redis:// through a TLS tunnel"));
    }
    let rest = text.strip_prefix("redis://").unwrap_or(text);
    if rest.len() == text.len() && text.contains("://") {
        return Err(None);
    }
    let is_url = rest.len() != text.len();
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) if is_url => (Some(credentials), rest),
        Some(_) => return Err(None),
        None => (None, rest),
    };
    let (server, db) = match rest.split_once('/') {
        Some((server, "")) if is_url => (server, 0),
        Some((server, db)) if is_url => (server, db.parse().map_err(|_| None)?),
        Some(_) => return Err(None),
        None => (rest, 0),
    };
    let server = if is_url && !server.contains(':') { format!("{server}:6379") } else { server.to_owned() };
    let (host, port) = host_port(&server).ok_or(None)?;
    let (user, password) = match credentials {
        None => (None, None),
        Some(credentials) => {
            let (user, password) = credentials.split_once(':').unwrap_or(("", credentials));
            let decode = |part: &str| percent_decode(part).ok_or(None);
            let user = if user.is_empty() { None } else { Some(decode(user)?) };
            (user, Some(decode(password)?))
        }
    };
    Ok(RedisAddress::Server { host, port, user, password, db })
}

/// RFC 3986 section 2.1; `None` for an invalid escape or bytes that are not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (bytes.next()?, bytes.next()?);
            let digit = |byte: u8| (byte as char).to_digit(16);
            decoded.push((digit(high)? * 16 + digit(low)?) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_must_fit() {
        assert_eq!(parse_duration_ms("250ms"), Some(250));
        assert_eq!(parse_duration_ms("24h"), Some(86_400_000));
        assert_eq!(parse_duration_ms("0"), Some(0));
        for wrong in ["5", "", "s", "1.5s", "-1s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse_duration_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn redis_addresses_are_parsed() {
        let server = |user: Option<&str>, password: Option<&str>, db| RedisAddress::Server {
            host: "h".to_owned(),
            port: 7,
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            db,
        };
        assert_eq!(parse_redis("h:7"), Ok(server(None, None, 0)));
        assert_eq!(parse_redis("redis://h:7/3"), Ok(server(None, None, 3)));
        assert_eq!(parse_redis("redis://:p%40ss@h:7"), Ok(server(None, Some("p@ss"), 0)));
        assert_eq!(parse_redis("redis://u:p:q@h:7/1"), Ok(server(Some("u"), Some("p:q"), 1)));
        assert_eq!(parse_redis("embedded"), Ok(RedisAddress::Embedded));
        assert!(matches!(parse_redis("rediss://h:7"), Err(Some(_))));
        for wrong in ["", "h", "h:", "h:0", "h:70000", ":7", "redis://h:7/x", "http://h:7", "h:7/1", "u@h:7"]
        {
            assert_eq!(parse_redis(wrong), Err(None), "{wrong}");
        }
    }

    #[test]
    fn a_displayed_address_hides_its_password() {
        let address = parse_redis("redis://u:secret@h:7/1");
        assert_eq!(format!("{address:?}"), "Ok(redis://u:***@h:7/1)");
    }
}
