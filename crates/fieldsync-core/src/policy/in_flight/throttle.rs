//! How many batches may be under way at a server that responds 429 to more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// For how many responses a number is obeyed, at first; twice as many each time …
const RESPONSES_OBEYED: u32 = 50;
/// … up to so many times.
const DOUBLINGS_MAX: u32 = 5;

/// What 429s showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Throttle {
    allowed: Option<usize>,
    responses_left: u32,
    times: u32,
    #[serde(skip)]
    throttled_at: Option<Duration>,
}

impl Throttle {
    /// The most that may be under way; none if that is not limited.
    pub(super) fn allowed(&self) -> Option<usize> {
        self.allowed.filter(|_| self.responses_left > 0)
    }

    /// The most that may be tried beside `size`. Beyond a number that led to a 429 before, it is one more at a time: each
    /// further batch would get a 429 of its own.
    pub(super) fn most_to_try(&self, size: usize) -> usize {
        match (self.allowed(), self.allowed) {
            (Some(allowed), _) => allowed,
            (None, Some(former)) => former.max(size) + 1,
            (None, None) => usize::MAX,
        }
    }

    pub(super) fn count_response(&mut self) {
        self.responses_left = self.responses_left.saturating_sub(1);
    }

    /// The server responded 429 to a batch that was sent while `before` others were under way. Returns how many may
    /// be. A 429 to a batch that was alone does not depend on their number.
    pub(super) fn record_throttling(
        &mut self,
        now: Duration,
        sent_at: Duration,
        before: usize,
    ) -> Option<usize> {
        if before == 0 {
            return None;
        }
        // Batches that were under way together are throttled for one reason.
        let is_same_round = self.throttled_at.is_some_and(|at| sent_at < at);
        let allowed = match self.allowed() {
            Some(allowed) if is_same_round => allowed.min(before),
            _ => before,
        };
        if !is_same_round {
            self.responses_left = RESPONSES_OBEYED << self.times;
            self.times = (self.times + 1).min(DOUBLINGS_MAX);
        }
        self.throttled_at = Some(now);
        self.allowed = Some(allowed);
        Some(allowed)
    }
}
