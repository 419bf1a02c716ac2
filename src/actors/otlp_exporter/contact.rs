//! The contact with the server that pushes follow: whether it was a moment ago, and whether a run is still under way.

use std::time::Duration;

/// A radio stays up for at least as long after a response, so a push costs no wake-up of its own.
const CONTACT_TAIL: Duration = Duration::from_secs(5);
/// A run that takes longer is not awaited: its middle is pushed, too.
const RUN_WAIT_MAX: Duration = Duration::from_mins(1);

/// The contact with the server.
#[derive(Default)]
pub(super) struct Contact {
    /// The responses that were seen.
    responses: u64,
    last_at: Option<Duration>,
    /// The first response of the run that is under way.
    run_began_at: Option<Duration>,
}

impl Contact {
    /// Earlier responses lead to no push.
    pub(super) fn skip(&mut self, responses: u64) {
        *self = Self { responses, ..Self::default() };
    }

    /// There were this many responses until now.
    pub(super) fn update(&mut self, responses: u64, is_run_under_way: bool, now: Duration) {
        if responses > self.responses {
            self.responses = responses;
            self.last_at = Some(now);
            self.run_began_at = self.run_began_at.or(Some(now));
        }
        if !is_run_under_way {
            self.run_began_at = None;
        }
    }

    pub(super) fn responses(&self) -> u64 {
        self.responses
    }

    /// Whether the server responded a moment ago.
    pub(super) fn is_recent(&self, now: Duration) -> bool {
        self.last_at.is_some_and(|at| now.saturating_sub(at) <= CONTACT_TAIL)
    }

    /// Whether the end of the run is near enough to wait for it, so that the push shows its result.
    pub(super) fn should_await_run(&self, now: Duration) -> bool {
        self.run_began_at.is_some_and(|at| now.saturating_sub(at) < RUN_WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_short_run_is_awaited_and_a_long_one_is_not() {
        let mut contact = Contact::default();
        assert!(!contact.is_recent(seconds(1)));
        for second in 100..160 {
            contact.update(second, true, seconds(second));
            assert!(contact.is_recent(seconds(second)) && contact.should_await_run(seconds(second)));
        }
        contact.update(160, true, seconds(160));
        assert!(!contact.should_await_run(seconds(160)));
        contact.update(160, false, seconds(161));
        assert!(contact.is_recent(seconds(165)) && !contact.is_recent(seconds(166)));
        contact.update(161, true, seconds(170));
        assert!(contact.should_await_run(seconds(171)), "the next run");
    }

    #[test]
    fn responses_from_before_a_collector_was_configured_are_no_contact() {
        let mut contact = Contact::default();
        contact.skip(7);
        contact.update(7, false, seconds(1));
        assert!(!contact.is_recent(seconds(1)));
        contact.update(8, false, seconds(2));
        assert!(contact.is_recent(seconds(2)));
    }
}
