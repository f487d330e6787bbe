//! A connection that waits, for threads of their own: checks and listings, never a core.

use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult};

use super::Server;

/// Connects; every question waits at most `timeout`.
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
