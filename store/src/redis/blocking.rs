//! A blocking connection for checks and listings. Used on separate threads, never on a core.

use std::ops::ControlFlow;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult};

use super::Server;

/// Connects; every query waits at most `timeout`.
pub(super) fn connect(server: &Server, timeout: Duration) -> RedisResult<redis::Connection> {
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(server.db));
    if let Some(user) = &server.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &server.password {
        settings = settings.set_password(password);
    }
    let address = ConnectionAddr::Tcp(server.host.clone(), server.port).into_connection_info()?;
    let client = redis::Client::open(address.set_redis_settings(settings))?;
    let connection = client.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

/// Keys per `SCAN` call. Redis takes about 0.2 ms for one call and serves others between two calls; ten
/// million keys are 10,000 calls.
const STEP_KEYS: u32 = 1000;

/// Scans all keys that begin with `prefix`, in steps, until `take` breaks. A key may be returned twice.
pub(super) fn walk(
    connection: &mut redis::Connection,
    prefix: &str,
    mut take: impl FnMut(&mut redis::Connection, Vec<String>) -> RedisResult<ControlFlow<()>>,
) -> RedisResult<()> {
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(STEP_KEYS)
            .query(connection)?;
        // This software writes no keys that are not UTF-8.
        let keys = keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
        if take(connection, keys)?.is_break() || next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}
