//! The time limit of the gateway in front of the server, where it is shorter than configured.
//!
//! Two 504s in a row after nearly the same time, which no answer outlasted, are the gateway's own limit.
//! An answer that took longer proves otherwise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How near two 504s must be, as a share of the later one.
const SAME: f64 = 0.05;
/// A 504 that comes sooner says that something is broken, not that a limit has passed.
const LEAST: Duration = Duration::from_secs(1);
/// A 504 that comes later than this share of the configured limit is that limit.
const CONFIGURED: f64 = 0.95;

/// What 504s say about the time limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeLimit {
    last: Option<Duration>,
    learned: Option<Duration>,
}

impl TimeLimit {
    /// The limit: the configured one, or the shorter one that was learned.
    pub fn get(&self, configured: Duration) -> Duration {
        self.learned.map_or(configured, |learned| learned.min(configured))
    }

    /// A 504 came after `took`; the longest answer of late took `longest`.
    pub fn timed_out(&mut self, took: Duration, longest: Duration, configured: Duration) {
        if took < LEAST.max(longest) || took >= configured.mul_f64(CONFIGURED) {
            self.last = None;
            return;
        }
        let again = self.last.replace(took);
        if again.is_some_and(|last| last.abs_diff(took) <= took.mul_f64(SAME)) {
            self.learned = Some(took);
        }
    }

    /// An answer came after `took`.
    pub fn answered(&mut self, took: Duration) {
        if self.learned.is_some_and(|learned| took > learned) {
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
            limit.timed_out(Duration::from_secs(*seconds), Duration::from_secs(longest), CONFIGURED);
        }
        limit.get(CONFIGURED).as_secs()
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
    fn an_answer_that_took_longer_proves_otherwise() {
        let mut limit = TimeLimit::default();
        for _ in 0..2 {
            limit.timed_out(Duration::from_secs(30), Duration::ZERO, CONFIGURED);
        }
        limit.answered(Duration::from_secs(29));
        assert_eq!(limit.get(CONFIGURED).as_secs(), 30);
        limit.answered(Duration::from_secs(31));
        assert_eq!(limit.get(CONFIGURED), CONFIGURED);
    }
}
