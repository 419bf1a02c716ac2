//! When measurements are handed over to be saved: soon after the first of a process, at the end of a run of batches, and
//! now and then in between. A device may lose its power at any time, and flash wears out with each save. Pure.

/// The first measurements of a process are saved after this time.
const FIRST_SAVE_DELAY_MS: u64 = 60 * 1000;
/// While batches follow each other, measurements are saved at most this often.
const SAVE_INTERVAL_MS: u64 = 10 * 60 * 1000;
/// At the end of a run of batches, measurements are saved at most this often.
const RUN_END_INTERVAL_MS: u64 = 2 * 60 * 1000;

/// The saves of this process. All times are steady: they go on while the device sleeps.
#[derive(Debug, Default)]
pub(super) struct SaveSchedule {
    /// Of the first measurement.
    started_at: Option<u64>,
    last_saved_at: Option<u64>,
    is_unsaved: bool,
}

impl SaveSchedule {
    /// Something was measured. Returns whether it is time to save.
    pub(super) fn on_measured(&mut self, now: u64) -> bool {
        self.is_unsaved = true;
        let started_at = *self.started_at.get_or_insert(now);
        match self.last_saved_at {
            Some(last) => now.saturating_sub(last) >= SAVE_INTERVAL_MS,
            None => now.saturating_sub(started_at) >= FIRST_SAVE_DELAY_MS,
        }
    }

    /// A run of batches has ended. Returns whether it is time to save.
    pub(super) fn on_run_ended(&self, now: u64) -> bool {
        let is_old = |last| now.saturating_sub(last) >= RUN_END_INTERVAL_MS;
        self.is_unsaved && self.last_saved_at.is_none_or(is_old)
    }

    /// Everything was handed over.
    pub(super) fn on_saved(&mut self, now: u64) {
        self.last_saved_at = Some(now);
        self.is_unsaved = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_MS: u64 = 1000;
    const START: u64 = 1_772_366_400_000;

    #[test]
    fn the_first_run_is_saved_when_it_ends_or_after_a_minute() {
        let mut schedule = SaveSchedule::default();
        assert!(!schedule.on_run_ended(START), "nothing was measured");
        assert!(!schedule.on_measured(START));
        assert!(schedule.on_run_ended(START + 2 * SECOND_MS));
        assert!(schedule.on_measured(START + 60 * SECOND_MS));
        schedule.on_saved(START + 60 * SECOND_MS);
        assert!(!schedule.on_run_ended(START + 600 * SECOND_MS), "it is saved already");
    }

    #[test]
    fn later_saves_are_rare_while_batches_follow_each_other_and_come_at_the_end_of_a_run() {
        let mut schedule = SaveSchedule::default();
        schedule.on_measured(START);
        schedule.on_saved(START);
        for second in 1..600 {
            assert!(!schedule.on_measured(START + second * SECOND_MS), "{second}");
            assert_eq!(schedule.on_run_ended(START + second * SECOND_MS), second >= 120, "{second}");
        }
        assert!(schedule.on_measured(START + 600 * SECOND_MS));
    }
}
