//! How fast a body goes out, and how large one may be on a link that cuts.
//!
//! The rate is a geometric mean that forgets (rates of one link differ by factors, not by sums). A body
//! that was cut halves the byte limit, one that came through gives it back by doubling.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one more body leaves of the weight of those before.
const MEMORY: f64 = 0.7;
/// A body that is smaller, or out at once, tells nothing: buffers of the system took it.
const LEAST_BYTES: u64 = 1024;
const LEAST_TIME: Duration = Duration::from_millis(20);
/// The least byte limit that cuts and refusals of large bodies can lead to.
pub const LEAST_LIMIT: u64 = 4096;
/// A body of this share of the limit shows that it holds.
const NEAR_LIMIT: f64 = 0.5;

/// What is known of the way up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Logarithm of payload bytes a second.
    rate: Option<f64>,
    limit: Option<u64>,
}

impl Throughput {
    /// Payload bytes of a body went out in `took`.
    pub fn sent(&mut self, bytes: u64, took: Duration) {
        if bytes < LEAST_BYTES {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seen = (bytes as f64 / took.max(LEAST_TIME).as_secs_f64()).ln();
        self.rate = Some(self.rate.map_or(seen, |rate| rate * MEMORY + seen * (1.0 - MEMORY)));
    }

    /// The link broke while a body of `bytes` went out.
    pub fn cut(&mut self, bytes: u64) {
        let half = (bytes / 2).max(LEAST_LIMIT);
        self.limit = Some(self.limit.map_or(half, |limit| limit.min(half)));
    }

    /// A body of `bytes` came through; the limit is forgotten beyond `most`.
    pub fn arrived(&mut self, bytes: u64, most: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a comparison of sizes")]
        let near = |limit: u64| bytes as f64 >= NEAR_LIMIT * limit as f64;
        if let Some(limit) = self.limit.filter(|limit| near(*limit)) {
            self.limit = Some(limit * 2).filter(|limit| *limit < most);
        }
    }

    /// Seconds that `bytes` take to go out.
    pub fn seconds(&self, bytes: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        self.rate.map_or(0.0, |rate| bytes as f64 / rate.exp())
    }

    /// Payload bytes that a body may have, where the link cut larger ones.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_link_within_a_few_bodies() {
        let mut up = Throughput::default();
        assert!(up.seconds(1_000_000) < f64::EPSILON, "nothing is known");
        for _ in 0..10 {
            up.sent(80_000, Duration::from_secs(10));
        }
        assert!((up.seconds(80_000) - 10.0).abs() < 0.1);
        for _ in 0..10 {
            up.sent(80_000, Duration::from_secs(1));
        }
        assert!(up.seconds(80_000) < 1.2, "{}", up.seconds(80_000));
        up.sent(100, Duration::from_secs(5));
        assert!(up.seconds(80_000) < 1.2, "a small body tells nothing");
    }

    #[test]
    fn a_cut_halves_and_arrivals_give_back() {
        let mut up = Throughput::default();
        up.cut(100_000);
        up.cut(200_000);
        assert_eq!(up.limit(), Some(50_000));
        up.arrived(1000, 1 << 20);
        assert_eq!(up.limit(), Some(50_000), "a small one proves nothing");
        up.arrived(45_000, 1 << 20);
        assert_eq!(up.limit(), Some(100_000));
        for _ in 0..5 {
            up.arrived(up.limit().unwrap_or(1 << 20), 1 << 20);
        }
        assert_eq!(up.limit(), None);
        for _ in 0..20 {
            up.cut(up.limit().unwrap_or(10_000));
        }
        assert_eq!(up.limit(), Some(LEAST_LIMIT));
    }
}
