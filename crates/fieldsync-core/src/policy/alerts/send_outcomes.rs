//! Results of recent sends: how many were ambiguous, since when all are denied, whether the credential is refused.
//!
//! The memory is bounded: sends are counted in slots of five minutes, and an hour of slots is kept.

use std::collections::VecDeque;

use crate::api::BatchOutcome;

/// The length of a slot.
const SLOT_MS: u64 = 5 * 60 * 1000;
/// How long a send counts.
pub(super) const WINDOW_MS: u64 = 12 * SLOT_MS;
/// A share of fewer sends says nothing.
pub(super) const SENDS_MIN: u64 = 10;

/// Results of recent sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOutcomes {
    /// The oldest first.
    slots: VecDeque<Slot>,
    /// The first denial since the server last processed a batch, in steady milliseconds.
    pub(super) denied_since: Option<u64>,
    /// The server did not accept the credential, or it could not be used, and nothing was sent since.
    pub(super) is_unauthorized: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    begin: u64,
    sends: u64,
    ambiguous: u64,
}

impl SendOutcomes {
    /// Adds the result of a send. `now` is steady milliseconds.
    pub fn record(&mut self, now: u64, outcome: BatchOutcome) {
        use BatchOutcome as Outcome;
        let (is_ambiguous, reached_server) = match outcome {
            Outcome::Timeout | Outcome::ConnectionLost => (true, true),
            Outcome::LinkTooSlow | Outcome::Unreachable => (false, false),
            _ => (false, true),
        };
        if reached_server {
            self.count(now, is_ambiguous);
        }
        match outcome {
            Outcome::Answered | Outcome::TooLarge | Outcome::Processing | Outcome::BatchIdReused => {
                (self.denied_since, self.is_unauthorized) = (None, false);
            }
            Outcome::Refused | Outcome::Misconfigured | Outcome::Interfered => {
                self.denied_since.get_or_insert(now);
            }
            Outcome::Unauthorized => self.is_unauthorized = true,
            // These say nothing about the credential or the address.
            Outcome::Timeout
            | Outcome::ServerError
            | Outcome::ConnectionLost
            | Outcome::LinkTooSlow
            | Outcome::Unreachable
            | Outcome::Throttled
            | Outcome::EncodingRefused => {}
        }
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
