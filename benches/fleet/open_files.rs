//! How many files this process may have open. Each connection of a device is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// For standard streams, the runtime, and the pipes of the servers.
const OTHER_FILES: u64 = 100;

/// Raises the limit as far as the system allows. Processes that are started later inherit it.
pub(crate) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

/// How many connections fit into the limit.
pub(crate) fn count_connections() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("Linux has this limit");
    usize::try_from(soft.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX)
}
