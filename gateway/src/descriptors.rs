//! Check: whether this process may open as many files as it needs.

use shard::checks::{Group, Verdict};

const NAMES: [&str; 1] = [DESCRIPTORS];
const DESCRIPTORS: &str = "file_descriptors";

/// File descriptors besides client connections: listening sockets, the ring and one Redis connection per core, librdkafka's
/// broker connections, the log. About 20 for two cores and one broker; the rest is a reserve for more of them.
const OTHERS: u64 = 256;

/// The check for a gateway with at most `connections_max` client connections.
pub(crate) fn group(connections_max: usize) -> Group {
    let check = move || {
        let limits = std::fs::read_to_string("/proc/self/limits").map_err(|error| error.to_string())?;
        Ok(vec![(DESCRIPTORS, compare(&limits, connections_max as u64))])
    };
    Group { names: &NAMES, check: Some(Box::new(check)) }
}

/// Compares `limits`, in the format of proc(5) with the soft limit first, with the need.
fn compare(limits: &str, connections_max: u64) -> Verdict {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let needed = connections_max + OTHERS;
    match line.and_then(|line| line.split_ascii_whitespace().next()) {
        Some("unlimited") => Verdict::Fine,
        Some(soft) => match soft.parse::<u64>() {
            Ok(soft) if soft >= needed => Verdict::Fine,
            Ok(soft) => Verdict::Warning(format!(
                "The process may open {soft} files but MAX_CONNECTIONS needs {needed}: further connections will fail; \
                 raise the limit (LimitNOFILE, ulimit -n) or lower MAX_CONNECTIONS"
            )),
            Err(_) => Verdict::Unknown(format!("the limit of open files is not a number: {soft:?}")),
        },
        None => Verdict::Unknown("/proc/self/limits has no limit of open files".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_compared_with_the_need() {
        let limits = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit\nMax open files     {soft}     524288    files\n")
        };
        assert_eq!(compare(&limits("1256"), 1000), Verdict::Fine);
        assert!(matches!(compare(&limits("1255"), 1000), Verdict::Warning(_)));
        assert_eq!(compare(&limits("unlimited"), 1000), Verdict::Fine);
        assert!(matches!(compare("", 1000), Verdict::Unknown(_)));
    }
}
