//! When the next push may begin: it is looked up at each contact, and no timer waits for it.

use std::time::Duration;

/// Longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_hours(1);

/// When the next push may begin.
#[derive(Default)]
pub(super) struct PushSchedule {
    not_before: Duration,
    failures: u32,
}

impl PushSchedule {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    /// Whether the last push failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn record_success(&mut self, now: Duration, interval: Duration) {
        *self = Self { not_before: now + interval, failures: 0 };
    }

    /// The wait doubles with each failure. What the collector asks for is respected, up to `retry_after_max`.
    pub(super) fn record_failure(
        &mut self,
        now: Duration,
        interval: Duration,
        retry_after: Option<Duration>,
        retry_after_max: Duration,
    ) {
        self.failures = self.failures.saturating_add(1);
        let backoff = interval.saturating_mul(2_u32.saturating_pow(self.failures)).min(BACKOFF_MAX);
        let asked = retry_after.unwrap_or_default().min(retry_after_max);
        self.not_before = now + backoff.max(interval).max(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    #[test]
    fn the_wait_doubles_with_each_failure_and_respects_the_collector() {
        let (mut schedule, hour) = (PushSchedule::default(), minutes(60));
        assert!(schedule.is_due(Duration::ZERO));
        for (retry_after, wait) in [
            (None, 2),
            (None, 4),
            (Some(minutes(30)), 30),
            (None, 16),
            (None, 32),
            (None, 60),
            (Some(minutes(600)), 60),
        ] {
            schedule.record_failure(Duration::ZERO, minutes(1), retry_after, hour);
            assert!(schedule.has_failed() && schedule.is_due(minutes(wait)), "{wait}");
            assert!(!schedule.is_due(minutes(wait).saturating_sub(Duration::from_millis(1))), "{wait}");
        }
        schedule.record_success(minutes(60), minutes(1));
        assert!(!schedule.has_failed() && schedule.is_due(minutes(61)) && !schedule.is_due(minutes(60)));
        schedule.record_failure(Duration::ZERO, minutes(120), None, hour);
        assert!(!schedule.is_due(minutes(119)), "never sooner than the interval");
    }
}
