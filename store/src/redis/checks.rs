//! Checks whether Redis is configured as a sale needs it. They run on their own thread and connection.

use std::time::Duration;

use redis::{RedisError, RedisResult};
use shard::checks::{Finding, Group, Verdict};

use super::{Server, blocking};
use crate::open::Source;

const NAMES: [&str; 3] = [VERSION, EVICTION, PERSISTENCE];

const VERSION: &str = "redis_version";
const EVICTION: &str = "redis_eviction";
const PERSISTENCE: &str = "redis_persistence";

/// First version with `SET … NX GET`. The handshake's probe rejects an older server.
const VERSION_MIN: u32 = 7;

/// Timeout of each query.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The checks of a store.
pub fn group(source: &Source) -> Group {
    let Source::Redis(server) = source else { return Group { names: &NAMES, check: None } };
    let server = server.clone();
    Group { names: &NAMES, check: Some(Box::new(move || run_checks(&server, TIMEOUT))) }
}

/// Runs the checks once. Returns an error if Redis cannot be queried now; if Redis denies a query, the
/// verdict is `Unknown`.
fn run_checks(server: &Server, timeout: Duration) -> Result<Vec<Finding>, String> {
    let mut connection = blocking::connect(server, timeout).map_err(|error| error.to_string())?;
    let info: RedisResult<String> = redis::cmd("INFO").query(&mut connection);
    let info = match info {
        Ok(info) => info,
        Err(error) if is_forbidden(&error) => {
            let unknown = |name| (name, Verdict::Unknown(format!("Redis does not allow INFO: {error}")));
            return Ok(NAMES.map(unknown).into());
        }
        Err(error) => return Err(error.to_string()),
    };
    let save = || -> Result<String, String> {
        let pairs: RedisResult<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg("save").query(&mut connection);
        let mut pairs = pairs.map_err(|error| error.to_string())?;
        pairs.pop().filter(|_| !pairs.is_empty()).ok_or_else(|| "no answer to CONFIG GET save".to_owned())
    };
    Ok(vec![(VERSION, version(&info)), (EVICTION, eviction(&info)), (PERSISTENCE, persistence(&info, save))])
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code().is_some_and(|code| code == "NOPERM") || error.to_string().contains("unknown command")
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn version(info: &str) -> Verdict {
    let Some(text) = field(info, "redis_version") else {
        return Verdict::Unknown("INFO names no redis_version".to_owned());
    };
    match text.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= VERSION_MIN => Verdict::Fine,
        Some(_) => Verdict::Warning(format!(
            "Redis {text} is not supported and lacks commands that orders need; upgrade it to {VERSION_MIN}.0 or newer"
        )),
        None => Verdict::Unknown(format!("Redis calls its version {text:?}")),
    }
}

fn eviction(info: &str) -> Verdict {
    match field(info, "maxmemory_policy") {
        Some("noeviction") => Verdict::Fine,
        Some(policy) => Verdict::Warning(format!(
            "Redis evicts keys when its memory is full (maxmemory-policy {policy}), which loses stock, statuses and limits \
             without an error; set maxmemory-policy noeviction"
        )),
        None => Verdict::Unknown("INFO names no maxmemory_policy".to_owned()),
    }
}

fn persistence(info: &str, save: impl FnOnce() -> Result<String, String>) -> Verdict {
    if field(info, "aof_enabled") == Some("1") {
        return Verdict::Fine;
    }
    match save() {
        Ok(points) if points.is_empty() => Verdict::Warning(
            "Redis writes neither an append-only file nor snapshots: a restart loses stock, statuses and limits; set \
             appendonly yes"
                .to_owned(),
        ),
        Ok(_) => Verdict::Fine,
        Err(error) => Verdict::Unknown(format!(
            "Redis has no append-only file and does not say whether it has save points: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_reply_to_info() {
        let fine = "# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(version(fine), Verdict::Fine);
        assert_eq!(eviction(fine), Verdict::Fine);
        assert_eq!(persistence(fine, || Err("not asked".to_owned())), Verdict::Fine);
        let poor = "redis_version:6.2.14\r\nmaxmemory_policy:volatile-lru\r\naof_enabled:0\r\n";
        assert!(matches!(version(poor), Verdict::Warning(_)));
        assert!(matches!(eviction(poor), Verdict::Warning(_)));
        assert!(matches!(persistence(poor, || Ok(String::new())), Verdict::Warning(_)));
        assert_eq!(persistence(poor, || Ok("3600 1".to_owned())), Verdict::Fine);
        assert!(matches!(persistence(poor, || Err("NOPERM".to_owned())), Verdict::Unknown(_)));
        assert!(matches!(version(""), Verdict::Unknown(_)));
    }
}
