//! The time limit of the gateway in front of the server, where it is shorter than configured.
//!
//! Two 504s in a row after nearly the same time show the gateway's own limit, if no recent response took longer. A
//! later response that takes longer disproves it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Two 504s count as the same limit if their times differ by at most this share of the later one.
const SAME_LIMIT_TOLERANCE: f64 = 0.05;
/// A 504 that arrives sooner shows a fault, not a time limit.
const TIME_LIMIT_MIN: Duration = Duration::from_secs(1);
/// A 504 that arrives after this share of the configured limit is that limit.
const CONFIGURED_SHARE_MIN: f64 = 0.95;

/// The time limit as learned from 504s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeLimit {
    last: Option<Duration>,
    learned: Option<Duration>,
}

impl TimeLimit {
    /// The limit that applies: the configured one, or the learned one if it is shorter.
    pub fn effective(&self, configured: Duration) -> Duration {
        self.learned.map_or(configured, |learned| learned.min(configured))
    }

    /// A 504 arrived after `elapsed`; the longest recent response took `longest`.
    pub fn record_timeout(&mut self, elapsed: Duration, longest: Duration, configured: Duration) {
        if elapsed < TIME_LIMIT_MIN.max(longest) || elapsed >= configured.mul_f64(CONFIGURED_SHARE_MIN) {
            self.last = None;
            return;
        }
        let again = self.last.replace(elapsed);
        if again.is_some_and(|last| last.abs_diff(elapsed) <= elapsed.mul_f64(SAME_LIMIT_TOLERANCE)) {
            self.learned = Some(elapsed);
        }
    }

    /// A response arrived after `elapsed`.
    pub fn record_response(&mut self, elapsed: Duration) {
        if self.learned.is_some_and(|learned| elapsed > learned) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Duration = Duration::from_mins(1);

    fn after(seconds: &[u64], longest: u64) -> u64 {
        let mut limit = TimeLimit::default();
        for seconds in seconds {
            limit.record_timeout(Duration::from_secs(*seconds), Duration::from_secs(longest), CONFIGURED);
        }
        limit.effective(CONFIGURED).as_secs()
    }

    #[test]
    fn two_504s_after_the_same_time_are_the_limit() {
        for (seconds, longest, expected) in [
            (&[30][..], 0, 60),
            (&[30, 30], 0, 30),
            (&[30, 40], 0, 60),
            (&[30, 40, 41], 0, 41),
            (&[30, 30], 35, 60),
            (&[60, 60], 0, 60),
            (&[0, 0], 0, 60),
        ] {
            assert_eq!(after(seconds, longest), expected, "{seconds:?}, answers of {longest} s");
        }
    }

    #[test]
    fn a_response_that_took_longer_disproves_the_limit() {
        let mut limit = TimeLimit::default();
        for _ in 0..2 {
            limit.record_timeout(Duration::from_secs(30), Duration::ZERO, CONFIGURED);
        }
        limit.record_response(Duration::from_secs(29));
        assert_eq!(limit.effective(CONFIGURED).as_secs(), 30);
        limit.record_response(Duration::from_secs(31));
        assert_eq!(limit.effective(CONFIGURED), CONFIGURED);
    }
}
