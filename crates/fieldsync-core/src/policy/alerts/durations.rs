//! Since when conditions last that are judged by their duration, in steady milliseconds.

use super::facts::AlertFacts;
use crate::model::{LinkState, Phase};
use crate::policy::breaker::Mode;

/// The acceptance of the oldest waiting record.
#[derive(Clone, Copy, Debug)]
struct OldestRecord {
    /// In wall milliseconds, as it was stored.
    accepted_at: u64,
    steady: u64,
    /// The wall clock was behind it: after a boot without a clock, its age is not known before the clock is set.
    is_in_future: bool,
}

/// Since when each condition lasts; none while it does not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durations {
    oldest: Option<OldestRecord>,
    /// Records wait, and nothing prevents the daemon on purpose from asking the server.
    pub(super) contact_wanted: Option<u64>,
    /// The breaker lets no batch through, and records wait.
    pub(super) breaker_open: Option<u64>,
    /// Something in place of the server responds.
    pub(super) portal: Option<u64>,
    /// Batches are denied while others succeed.
    pub(super) denied_batches: Option<u64>,
}

impl Durations {
    pub(super) fn update(&mut self, facts: &AlertFacts<'_>, has_server: bool) {
        let now = facts.now;
        let waits = facts.backlog.to_go() > 0;
        // Converted once for each record: if the wall clock is set later, the age of this record stays right.
        self.oldest = facts.backlog.oldest_pending_at.map(|accepted_at| match self.oldest {
            Some(same) if same.accepted_at == accepted_at && !same.is_in_future => same,
            _ => OldestRecord {
                accepted_at,
                steady: now.steady.saturating_sub(now.wall.saturating_sub(accepted_at)),
                is_in_future: accepted_at > now.wall,
            },
        });
        let is_on_purpose = facts.backlog.paused || !has_server || facts.phase == Phase::Deferred;
        track(&mut self.contact_wanted, waits && !is_on_purpose, now.steady);
        let is_open = matches!(facts.breaker, Mode::Open { .. } | Mode::Probing);
        track(&mut self.breaker_open, is_open && waits, now.steady);
        track(&mut self.portal, facts.link == LinkState::CaptivePortal && waits, now.steady);
        track(&mut self.denied_batches, facts.denied_batches > 0, now.steady);
    }

    /// When the oldest waiting record was accepted, in steady milliseconds.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        self.oldest.map(|oldest| oldest.steady)
    }
}

fn track(since: &mut Option<u64>, holds: bool, now: u64) {
    *since = since.or(Some(now)).filter(|_| holds);
}
