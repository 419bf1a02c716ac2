//! Waiting for a condition, never for a time; and the pace of what is slow by its nature.

use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use tempfile::TempDir;

/// Nothing here takes longer on a sound machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` yields something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::start();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(clock.now() < DEADLINE, "waited in vain for {what}");
        thread::park_timeout(POLL);
    }
}

/// Takes as long as a slow link or a slow server does. No test waits so for something to happen.
pub(crate) fn pace(time: Duration) {
    let clock = Clock::start();
    // A thread may be woken for no reason.
    while let Some(left) = time.checked_sub(clock.now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// A directory with room for a store.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}
