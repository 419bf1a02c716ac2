//! What is under way besides the open batches, and how many batches were under way beside each other.

use std::time::Duration;

/// The requests that are under way.
#[derive(Debug, Default)]
pub(super) struct ParallelRequests {
    /// When the outcome query was sent that is under way.
    query_sent_at: Option<Duration>,
    /// When the canary was sent that is under way.
    canary_sent_at: Option<Duration>,
    batches: usize,
    since: Duration,
    flight_seconds: f64,
}

impl ParallelRequests {
    pub(super) fn start_query(&mut self, now: Duration) {
        self.query_sent_at = Some(now);
    }

    /// The query is not under way any more. Returns when it was sent.
    pub(super) fn end_query(&mut self) -> Option<Duration> {
        self.query_sent_at.take()
    }

    pub(super) fn has_query(&self) -> bool {
        self.query_sent_at.is_some()
    }

    pub(super) fn start_canary(&mut self, now: Duration) {
        self.canary_sent_at = Some(now);
    }

    /// The canary is not under way any more. Returns when it was sent.
    pub(super) fn end_canary(&mut self) -> Option<Duration> {
        self.canary_sent_at.take()
    }

    pub(super) fn has_canary(&self) -> bool {
        self.canary_sent_at.is_some()
    }

    /// So many batches are under way from now on.
    pub(super) fn set_batches(&mut self, now: Duration, batches: usize) {
        self.flight_seconds = self.flight_seconds(now);
        (self.batches, self.since) = (batches, now);
    }

    /// The durations of all flights so far, added up, in seconds.
    pub(super) fn flight_seconds(&self, now: Duration) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
        let batches = self.batches as f64;
        self.flight_seconds + batches * now.saturating_sub(self.since).as_secs_f64()
    }

    /// How many batches were under way on average since a batch was sent, itself included.
    pub(super) fn average(&self, now: Duration, sent_at: Duration, flight_seconds_before: f64) -> f64 {
        let flight = now.saturating_sub(sent_at).as_secs_f64();
        let seconds = self.flight_seconds(now) - flight_seconds_before;
        if flight > 0.0 { (seconds / flight).max(1.0) } else { 1.0 }
    }
}
