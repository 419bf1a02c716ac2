//! The only place that reads a clock.

use std::time::Instant;

use jiff::Timestamp;

#[expect(clippy::disallowed_methods, reason = "this is the clock of the stand-in")]
pub(crate) fn monotonic_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the clock of the stand-in")]
pub(crate) fn wall_now() -> Timestamp {
    Timestamp::now()
}
