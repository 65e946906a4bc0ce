//! The limit of open files, which is the limit of connections: raised as far as it goes at start.

use crate::config::LimitsConfig;

/// Descriptors kept for what is no connection: listeners, epoll, Redis, files, log.
const RESERVE: u64 = 512;

/// Raises the soft limit of open files to the hard limit. Returns how many connections fit.
pub(crate) fn connections(limits: &LimitsConfig) -> usize {
    // What POSIX promises at least; a start with it is better than none.
    let before = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(256, |(soft, _)| soft);
    let open_files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot raise the limit of open files");
        before
    });
    let connections = within(open_files, limits.connections);
    tracing::info!(open_files, connections, "{}", came_of_it(before, open_files));
    if connections < limits.connections {
        tracing::warn!(
            wanted = limits.connections,
            connections,
            "limits.connections is more than the limit of open files allows: raise `ulimit -Hn`"
        );
    }
    connections
}

/// What became of the limit, in words.
fn came_of_it(before: u64, open_files: u64) -> &'static str {
    match open_files > before {
        true => "raised the limit of open files",
        false => "the limit of open files stays as it was",
    }
}

/// Connections that fit into `open_files`, at most `wanted` unless that is 0.
fn within(open_files: u64, wanted: usize) -> usize {
    // Of a small limit half goes to connections, so that at least something works.
    let room = open_files.saturating_sub(RESERVE).max(open_files / 2).max(1);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if wanted == 0 { room } else { wanted.min(room) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_stays_is_not_raised() {
        assert!(came_of_it(1024, 4096).starts_with("raised"));
        assert!(came_of_it(4096, 4096).ends_with("stays as it was"));
    }

    #[test]
    fn connections_leave_a_reserve() {
        for (open_files, wanted, expected) in [
            (20_000, 0, 19_488),
            (20_000, 1_000, 1_000),
            (20_000, 50_000, 19_488),
            (600, 0, 300),
            (1, 0, 1),
        ] {
            assert_eq!(within(open_files, wanted), expected, "{open_files} {wanted}");
        }
    }
}
