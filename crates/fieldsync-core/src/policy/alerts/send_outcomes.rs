//! Results of recent sends: how many were ambiguous, and for how long all were denied.
//!
//! The memory is bounded: sends are counted in slots of five minutes, and an hour of slots is kept.

use std::collections::VecDeque;

use crate::api::BatchOutcome;

/// The length of a slot.
const SLOT_MS: u64 = 5 * 60 * 1000;
/// How long a send counts.
pub(super) const WINDOW_MS: u64 = 12 * SLOT_MS;
const FORBIDDEN: u16 = 403;
/// A share of fewer sends says nothing.
pub(super) const SENDS_MIN: u64 = 20;

/// Results of recent sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOutcomes {
    /// The oldest first.
    slots: VecDeque<Slot>,
    /// None after a send that shows that not every one is denied.
    pub(super) denials: Option<DenialPeriod>,
}

/// The first and the last of consecutive denials, in steady milliseconds. The time behind the last one says nothing: the
/// device may be offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DenialPeriod {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// The end of a send.
#[derive(Clone, Copy, Debug)]
pub struct SendEnd {
    /// What became of it.
    pub outcome: BatchOutcome,
    /// If there was a response.
    pub http_status: Option<u16>,
    /// It was larger than a micro-batch, and nothing was known of the server's speed: a timeout is how the daemon learns.
    pub is_learning: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    begin: u64,
    sends: u64,
    ambiguous: u64,
}

impl SendOutcomes {
    /// Adds the result of a send. `now` is steady milliseconds.
    pub fn record(&mut self, now: u64, end: SendEnd) {
        use BatchOutcome as Outcome;
        let SendEnd { outcome, http_status, is_learning } = end;
        let (is_ambiguous, reached_server) = match outcome {
            Outcome::Timeout => (true, !is_learning),
            Outcome::ConnectionLost | Outcome::ServerError => (true, true),
            Outcome::LinkTooSlow | Outcome::Unreachable => (false, false),
            _ => (false, true),
        };
        if reached_server {
            self.count(now, is_ambiguous);
        }
        let is_denied = match outcome {
            Outcome::Refused | Outcome::Misconfigured | Outcome::Interfered => true,
            // The server knows who sends, and does not allow it. Otherwise, the credential is refused.
            Outcome::Unauthorized => http_status == Some(FORBIDDEN),
            // They did not reach the server.
            Outcome::LinkTooSlow | Outcome::Unreachable => return,
            _ => false,
        };
        self.denials = is_denied
            .then(|| DenialPeriod { first: self.denials.map_or(now, |period| period.first), last: now });
    }

    fn count(&mut self, now: u64, is_ambiguous: bool) {
        let begin = now - now % SLOT_MS;
        if self.slots.back().is_none_or(|slot| slot.begin < begin) {
            self.slots.push_back(Slot { begin, ..Slot::default() });
            self.slots.retain(|slot| slot.end() > now);
        }
        if let Some(slot) = self.slots.back_mut() {
            slot.sends += 1;
            slot.ambiguous += u64::from(is_ambiguous);
        }
    }

    /// Sends of the last hour, and how many of them were ambiguous.
    pub(super) fn counts(&self, now: u64) -> (u64, u64) {
        self.recent(now)
            .fold((0, 0), |(sends, ambiguous), slot| (sends + slot.sends, ambiguous + slot.ambiguous))
    }

    /// When the oldest of them no longer count, in steady milliseconds.
    pub(super) fn next_expiry(&self, now: u64) -> Option<u64> {
        self.recent(now).map(Slot::end).next()
    }

    fn recent(&self, now: u64) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.end() > now)
    }
}

impl Slot {
    /// When its sends no longer count.
    fn end(&self) -> u64 {
        self.begin + SLOT_MS + WINDOW_MS
    }
}
