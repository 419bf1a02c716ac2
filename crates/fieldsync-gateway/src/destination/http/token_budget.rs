//! How often access tokens may be asked for.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};

use crate::clock::Clock;

/// The destination's window begins when a request arrives there, which is later than it is counted here.
const WINDOW_MARGIN: Duration = Duration::from_secs(10);

/// Counts token requests, for all that share the refresh token.
pub(crate) trait TokenBudget: Send + Sync {
    /// Counts a request that is about to be sent, or says how long to wait.
    fn take(&self, requests_max: usize, window: Duration) -> BoxFuture<'_, Result<(), Duration>>;
}

/// The budget of one gateway that shares the refresh token with no other.
pub(crate) struct LocalTokenBudget {
    clock: Clock,
    asked: Mutex<VecDeque<Duration>>,
}

impl LocalTokenBudget {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::start(), asked: Mutex::default() }
    }

    fn take_at(&self, now: Duration, requests_max: usize, window: Duration) -> Result<(), Duration> {
        let window = window + WINDOW_MARGIN;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.front().is_some_and(|then| *then + window <= now) {
            asked.pop_front();
        }
        if asked.len() >= requests_max {
            return Err(asked.front().map_or(window, |then| (*then + window).saturating_sub(now)));
        }
        asked.push_back(now);
        Ok(())
    }
}

impl TokenBudget for LocalTokenBudget {
    fn take(&self, requests_max: usize, window: Duration) -> BoxFuture<'_, Result<(), Duration>> {
        Box::pin(ready(self.take_at(self.clock.now(), requests_max, window)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_has_more_requests_than_allowed() {
        let budget = LocalTokenBudget::new();
        let take = |second| budget.take_at(Duration::from_secs(second), 2, Duration::from_mins(1));
        assert_eq!([take(0), take(5), take(5)], [Ok(()), Ok(()), Err(Duration::from_secs(65))]);
        assert_eq!(
            [take(69), take(70), take(71)],
            [Err(Duration::from_secs(1)), Ok(()), Err(Duration::from_secs(4))]
        );
    }
}
