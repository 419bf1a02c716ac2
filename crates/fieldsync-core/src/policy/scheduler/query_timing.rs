//! When the outcome of a batch is queried, and how long the server can take to process one.

use std::time::Duration;

use crate::config::Config;

/// The waits before the queries for one batch. The first is sent at once, before anything else: it shows whether the
/// server responds.
const QUERY_WAITS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(10),
];
/// The shortest wait where the server says that it is still processing the batch.
pub(super) const PROCESSING_WAIT_MIN: Duration = Duration::from_millis(300);
/// The wait for a batch that is still being processed ends after this many time limits.
const PROCESSING_TIME_LIMITS: f64 = 1.5;

/// Other batches that are under way prolong that wait by this factor at most.
const LOAD_FACTOR_MAX: f64 = 4.0;

/// The wait before the query that follows `tries` others.
pub(super) fn query_wait(config: &Config, tries: usize) -> Duration {
    let wait = QUERY_WAITS.get(tries).or(QUERY_WAITS.last()).copied().unwrap_or(PROCESSING_WAIT_MIN);
    // A server with a short limit has its outcome sooner.
    wait.min(config.server.request_timeout.0 / 4)
}

/// How long the server can be processing a batch that takes longer than alone by a factor.
pub(super) fn processing_limit(time_limit: Duration, load_factor: f64) -> Duration {
    time_limit.mul_f64(PROCESSING_TIME_LIMITS * load_factor.clamp(1.0, LOAD_FACTOR_MAX))
}
