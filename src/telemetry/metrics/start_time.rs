//! When the daemon started, as the wall clock shows it now: a clock that was wrong at the start is set later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Now;

/// A difference that is drift, and no clock that was set. Smaller ones do not move the start, because receivers take a
/// new start for a restart.
const DRIFT_MAX_MS: u64 = 2_000;

/// When the daemon started.
#[derive(Clone, Debug)]
pub struct StartTime {
    steady: u64,
    /// In wall milliseconds, as it was shown last.
    shown: Arc<AtomicU64>,
}

impl StartTime {
    /// It starts now.
    pub fn new(now: Now) -> Self {
        Self { steady: now.steady, shown: Arc::new(AtomicU64::new(now.wall)) }
    }

    /// In wall milliseconds. It is never after `now`.
    pub fn wall_ms(&self, now: Now) -> u64 {
        let derived = now.to_wall_ms(self.steady);
        let shown = self.shown.load(Ordering::Relaxed);
        if derived.abs_diff(shown) <= DRIFT_MAX_MS {
            return shown.min(now.wall);
        }
        self.shown.store(derived, Ordering::Relaxed);
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    #[test]
    fn the_start_follows_a_clock_that_is_set_and_not_one_that_drifts() {
        let now = |steady, wall| Now { steady, wall };
        let (ahead, right) = (500 * DAY_MS, 100 * DAY_MS);
        let start = StartTime::new(now(70_000, ahead));
        assert_eq!(start.wall_ms(now(80_000, ahead + 10_000)), ahead);
        assert_eq!(start.wall_ms(now(90_000, ahead + 21_000)), ahead, "a second of drift");
        for (steady, wall) in [(170_000, right), (200_000, right + 29_500), (200_000, right + 2_000 + 30_000)]
        {
            assert_eq!(start.wall_ms(now(steady, wall)), right - 100_000, "{steady}");
        }
        let behind = StartTime::new(now(70_000, 1_000));
        assert_eq!(behind.wall_ms(now(75_000, right)), right - 5_000);
        let at_once = StartTime::new(now(70_000, 5_000));
        assert_eq!(at_once.wall_ms(now(70_000, 4_000)), 4_000, "never after the present");
    }
}
