//! Waiting for a condition, never for a time; and simulated delays of slow links and servers.

use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use tempfile::TempDir;

/// No wait takes longer on a busy machine. Some intervals of the programs are not longer: see [`wait_for_within`].
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` returns a value.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_for_within(DEADLINE, what, condition)
}

/// As [`wait_for`], for a condition that is met later in any case, for example by a periodic attempt.
#[track_caller]
pub(crate) fn wait_for_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::start();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(clock.now() < limit, "timed out waiting for {what}");
        thread::park_timeout(POLL);
    }
}

/// Simulates the delay of a slow link or server. No test uses it to wait for an event.
pub(crate) fn pace(time: Duration) {
    let clock = Clock::start();
    // Wake-ups may be spurious.
    while let Some(left) = time.checked_sub(clock.now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// A directory with space for a store.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}
