//! How old records are, although the wall clock that dates them may have been set since.
//!
//! A device without a battery for its clock starts with a wrong date, accepts records, and gets the right date later. The
//! difference of two wall times is then years, or negative.

use std::collections::VecDeque;

use crate::clock::Now;

/// A smaller change of the wall clock is drift.
const JUMP_MIN_MS: i64 = 2_000;
/// Periods between two jumps that are known at most. Then the oldest is forgotten.
const PERIODS_MAX: usize = 16;
/// An older record was dated by a wrong clock of an earlier run.
const AGE_MAX_MS: u64 = 365 * 24 * 3600 * 1000;

/// A time in which the wall clock was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ClockPeriod {
    /// Wall minus steady time.
    offset: i64,
    /// The earliest steady time at which it may have begun.
    from: i64,
    /// The latest steady time at which it may have ended.
    until: i64,
}

/// The periods of the wall clock since the start, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordAges {
    periods: VecDeque<ClockPeriod>,
}

impl RecordAges {
    /// Notices whether the clock was set since the last call.
    pub(super) fn observe(&mut self, now: Now) {
        let steady = now.steady.cast_signed();
        let offset = now.wall.cast_signed().saturating_sub(steady);
        let mut from = steady;
        if let Some(last) = self.periods.back_mut() {
            let seen = std::mem::replace(&mut last.until, steady);
            if last.offset.saturating_sub(offset).saturating_abs() <= JUMP_MIN_MS {
                last.offset = offset;
                return;
            }
            from = seen;
        }
        self.periods.push_back(ClockPeriod { offset, from, until: steady });
        if self.periods.len() > PERIODS_MAX {
            self.periods.pop_front();
        }
    }

    /// The age of a record that the wall clock dated, in milliseconds; none if its date cannot be right. A record of an
    /// earlier run is taken to have the present clock's.
    pub(super) fn age_ms(&self, created_at: u64, now: Now) -> Option<u64> {
        let age = self.age_in_known_period(created_at, now).or_else(|| now.wall.checked_sub(created_at));
        age.filter(|age| *age <= AGE_MAX_MS)
    }

    fn age_in_known_period(&self, created_at: u64, now: Now) -> Option<u64> {
        self.periods.iter().rev().find_map(|period| {
            let created = created_at.cast_signed().saturating_sub(period.offset);
            let is_after = created >= period.from.saturating_sub(JUMP_MIN_MS);
            let is_before = created <= period.until.saturating_add(JUMP_MIN_MS);
            let age = now.steady.cast_signed().saturating_sub(created).max(0);
            (is_after && is_before).then_some(age.unsigned_abs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;
    const DAY: u64 = 24 * 3600 * SECOND;
    /// Steady time at the start.
    const START: u64 = 20_000 * DAY;

    fn now(seconds: u64, wall: u64) -> Now {
        Now { steady: START + seconds * SECOND, wall }
    }

    #[test]
    fn ages_are_right_although_the_clock_is_set_meanwhile() {
        for (wrong, right) in [(500 * DAY, START), (START + 60 * DAY, START), (0, START)] {
            let mut ages = RecordAges::default();
            ages.observe(now(0, wrong));
            // Records of the tenth second, before the clock is set, and of the fiftieth, after that.
            let (before, after) = (wrong + 10 * SECOND, right + 50 * SECOND);
            ages.observe(now(30, wrong + 30 * SECOND));
            let present = now(60, right + 60 * SECOND);
            ages.observe(present);
            assert_eq!(ages.age_ms(before, present), Some(50 * SECOND), "{wrong}");
            assert_eq!(ages.age_ms(after, present), Some(10 * SECOND), "{wrong}");
            // An earlier run with the right time.
            assert_eq!(ages.age_ms(right - DAY, present), Some(DAY + 60 * SECOND), "{wrong}");
        }
    }

    #[test]
    fn a_record_of_an_unknown_time_has_no_age() {
        let mut ages = RecordAges::default();
        let present = now(60, START);
        ages.observe(present);
        assert_eq!(ages.age_ms(START + DAY, present), None, "accepted when the clock was ahead");
        assert_eq!(ages.age_ms(10 * DAY, present), None, "accepted when the clock was years behind");
        assert_eq!(ages.age_ms(START - 3 * DAY, present), Some(3 * DAY));
        assert_eq!(ages.age_ms(START + SECOND, present), Some(0), "drift");
    }

    #[test]
    fn a_clock_that_is_set_again_and_again_takes_bounded_memory() {
        let mut ages = RecordAges::default();
        for jump in 0..100 {
            ages.observe(now(jump, START + jump * DAY));
        }
        assert_eq!(ages.periods.len(), PERIODS_MAX);
        assert_eq!(ages.age_ms(START + 98 * DAY, now(99, START + 99 * DAY)), Some(SECOND));
    }
}
