//! The clock by which rows of the file are old: the wall clock, but no further ahead than the ledger has seen time pass.
//!
//! A wall clock that jumped ahead by a year would otherwise erase the ledger, and with it what keeps a record from
//! being applied twice. The time that the ledger has seen follows the wall clock at no more than twice the speed of a
//! steady clock, in both directions, and is stored. So a gateway that was off for a month keeps rows longer for another month at most, and
//! one whose clock is wrong for a day forgets what is two days old too early, and no more.

use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};

use super::tables::{ANSWERED, LISTING, META};
use crate::clock::millis;
use crate::ledger::LedgerError;

/// The time that the ledger has seen; missing until the first pruning.
const SEEN_KEY: &str = "seen_ms";
/// How much faster than a steady clock the time may pass.
const CATCH_UP_FACTOR: u32 = 2;
/// It is stored when it has changed by so much.
const STORE_INTERVAL: Duration = Duration::from_mins(10);
/// A wall clock that is further ahead is reported.
const REPORT_DIFFERENCE: Duration = Duration::from_hours(24);

/// The time that the ledger has seen.
#[derive(Debug)]
pub(super) struct PruneClock {
    /// Since 1970.
    seen: Duration,
    /// What the steady clock showed then.
    at: Duration,
    stored: Option<Duration>,
    is_reported: bool,
}

impl PruneClock {
    /// Continues with the time that is stored, or with the newest row, or with the wall clock if there is none.
    pub(super) fn load(
        database: &impl ReadableDatabase,
        steady: Duration,
        wall: u64,
    ) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let stored = transaction.open_table(META)?.get(SEEN_KEY)?.map(|seen| seen.value());
        let answered = transaction.open_table(ANSWERED)?.last()?.map(|(key, _)| key.value().0);
        let applied = transaction.open_table(LISTING)?.last()?.map(|(_, columns)| columns.value().5);
        let seen = stored.or_else(|| answered.max(applied)).unwrap_or(wall);
        let stored = stored.map(Duration::from_millis);
        Ok(Self { seen: Duration::from_millis(seen), at: steady, stored, is_reported: false })
    }

    /// The time by which rows are old, in milliseconds.
    pub(super) fn advance(&mut self, steady: Duration, wall: u64) -> u64 {
        let wall_time = Duration::from_millis(wall);
        let step = steady.saturating_sub(self.at) * CATCH_UP_FACTOR;
        self.seen = wall_time.clamp(self.seen.saturating_sub(step), self.seen + step);
        self.at = steady;
        let ahead = wall_time.saturating_sub(self.seen);
        let is_far_ahead = ahead > REPORT_DIFFERENCE;
        if is_far_ahead && !self.is_reported {
            let days = ahead.as_secs() / REPORT_DIFFERENCE.as_secs();
            tracing::warn!(
                days,
                "the clock is days ahead of the last time in the ledger: if the gateway was not off for so long, the clock \
                 is wrong; old rows are kept longer meanwhile"
            );
        }
        self.is_reported = is_far_ahead;
        wall.min(millis(self.seen))
    }

    /// What is to be stored, if it is time for that.
    pub(super) fn unstored(&self) -> Option<Duration> {
        let is_due = self.stored.is_none_or(|stored| self.seen.abs_diff(stored) >= STORE_INTERVAL);
        is_due.then_some(self.seen)
    }

    pub(super) fn note_stored(&mut self, seen: Duration) {
        self.stored = Some(seen);
    }
}

/// Stores the time that the ledger has seen.
pub(super) fn store_seen_time(transaction: &WriteTransaction, seen: Duration) -> Result<(), LedgerError> {
    transaction.open_table(META)?.insert(SEEN_KEY, millis(seen))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const START: u64 = 20_000 * DAY_MS;

    fn clock() -> PruneClock {
        PruneClock {
            seen: Duration::from_millis(START),
            at: Duration::ZERO,
            stored: None,
            is_reported: false,
        }
    }

    fn days(count: u64) -> Duration {
        Duration::from_millis(count * DAY_MS)
    }

    #[test]
    fn the_wall_clock_counts_while_it_is_as_fast_as_the_steady_one() {
        let mut clock = clock();
        for day in [1, 2, 30, 400] {
            assert_eq!(clock.advance(days(day), START + day * DAY_MS), START + day * DAY_MS);
        }
        // It was set back for a day, and is right again.
        assert_eq!(clock.advance(days(401), START + 390 * DAY_MS), START + 390 * DAY_MS);
        assert_eq!(clock.advance(days(402), START + 402 * DAY_MS), START + 400 * DAY_MS);
        assert_eq!(clock.advance(days(404), START + 404 * DAY_MS), START + 404 * DAY_MS);
    }

    #[test]
    fn a_clock_that_jumped_ahead_makes_nothing_older_than_twice_the_time_that_has_passed() {
        let mut clock = clock();
        assert_eq!(clock.advance(Duration::ZERO, START + 401 * DAY_MS), START);
        assert!(clock.is_reported);
        assert_eq!(clock.advance(days(1), START + 402 * DAY_MS), START + 2 * DAY_MS);
        // It is right again.
        assert_eq!(clock.advance(days(2), START + 2 * DAY_MS), START + 2 * DAY_MS);
        assert!(!clock.is_reported);
        assert_eq!(clock.advance(days(3), START + 3 * DAY_MS), START + 3 * DAY_MS);
    }

    #[test]
    fn after_a_pause_the_time_is_caught_up_with() {
        let mut clock = clock();
        assert_eq!(clock.advance(days(10), START + 40 * DAY_MS), START + 20 * DAY_MS);
        assert_eq!(clock.advance(days(29), START + 59 * DAY_MS), START + 58 * DAY_MS);
        assert_eq!(clock.advance(days(31), START + 61 * DAY_MS), START + 61 * DAY_MS);
    }
}
