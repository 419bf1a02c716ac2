//! How many batches end in a second while the gateway is busy: the speed at which refused devices can return.

use std::time::Duration;

/// Older measurements lose weight with this time constant, in seconds.
const DECAY_SECONDS: f64 = 3.0;
/// Fewer completions are no measurement.
const COMPLETIONS_MIN: f64 = 8.0;
/// A longer pause between two completions counts as this long, so that one stall does not count for ever.
const PAUSE_SECONDS_MAX: f64 = 5.0;

/// Completions and busy time, both decayed.
#[derive(Debug, Default)]
pub(super) struct CompletionRate {
    completions: f64,
    seconds: f64,
    /// The completion before, if the gateway was busy then.
    last: Option<Duration>,
}

impl CompletionRate {
    /// A batch ended; `is_busy` if others could not all be accepted at this load.
    pub(super) fn record_completion(&mut self, now: Duration, is_busy: bool) {
        if !is_busy {
            self.last = None;
            return;
        }
        if let Some(last) = self.last {
            let pause = now.saturating_sub(last).as_secs_f64().min(PAUSE_SECONDS_MAX);
            let decay = (-pause / DECAY_SECONDS).exp();
            self.completions = self.completions * decay + 1.0;
            self.seconds = self.seconds * decay + pause;
        }
        self.last = Some(now);
    }

    /// `None` before enough was measured.
    pub(super) fn per_second(&self) -> Option<f64> {
        (self.completions >= COMPLETIONS_MIN && self.seconds > 0.0).then(|| self.completions / self.seconds)
    }
}
