//! Since when conditions last that are judged by their duration, in steady milliseconds.

use super::facts::AlertFacts;
use crate::model::LinkState;
use crate::policy::breaker::Mode;

/// Since when each condition lasts; none while it does not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durations {
    /// The acceptance of the oldest waiting record: in wall milliseconds as it was stored, and as a steady time.
    oldest: Option<(u64, u64)>,
    /// The breaker lets no batch through, and records wait.
    pub(super) breaker_open: Option<u64>,
    /// Something in place of the server responds.
    pub(super) portal: Option<u64>,
    /// Batches are denied while others succeed.
    pub(super) denied_batches: Option<u64>,
}

impl Durations {
    pub(super) fn update(&mut self, facts: &AlertFacts<'_>) {
        let now = facts.now;
        let waits = facts.backlog.to_go() > 0;
        // Converted once for each record: if the wall clock is set later, the age of this record stays right.
        self.oldest = facts.backlog.oldest_pending_at.map(|at| match self.oldest {
            Some((same, steady)) if same == at => (at, steady),
            _ => (at, now.steady.saturating_sub(now.wall.saturating_sub(at))),
        });
        let is_open = matches!(facts.breaker, Mode::Open { .. } | Mode::Probing);
        track(&mut self.breaker_open, is_open && waits, now.steady);
        track(&mut self.portal, facts.link == LinkState::CaptivePortal && waits, now.steady);
        track(&mut self.denied_batches, facts.denied_batches > 0, now.steady);
    }

    /// When the oldest waiting record was accepted, in steady milliseconds.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        self.oldest.map(|(_, steady)| steady)
    }
}

fn track(since: &mut Option<u64>, holds: bool, now: u64) {
    *since = since.or(Some(now)).filter(|_| holds);
}
