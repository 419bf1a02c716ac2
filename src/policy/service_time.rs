//! What a batch will take, learned from those that were answered.
//!
//! As the customer asks: the average processing time per record, measured on answered batches,
//! and a margin. The average forgets: each batch weighs 0.7 of the next, and a batch weighs by
//! its records, so that a single record does not pass its start-up cost off as its own.
//! A time-out cuts the size in half at once; answered batches of that size give it back one by
//! one (additive increase, multiplicative decrease: Chiu and Jain, 1989). Where a batch of that
//! size was answered just before, the size is not at fault, a record may be: then only a second
//! time-out in a row cuts.

use std::time::Duration;

/// What one more batch leaves of the weight of those before.
const MEMORY: f64 = 0.7;
/// Answered batches at the cap that raise it by one record: a time-out costs far more than they gain.
const ANSWERS_PER_STEP: u32 = 4;

/// The learned model.
#[derive(Clone, Debug, Default)]
pub struct ServiceTime {
    records: f64,
    seconds: f64,
    cap: Option<usize>,
    answers_at_cap: u32,
    /// The largest batch that was answered since one of its size timed out.
    proven: usize,
}

impl ServiceTime {
    /// A batch of `records` was answered after `took`.
    pub fn answered(&mut self, records: usize, took: Duration) {
        if records == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 records")]
        let count = records as f64;
        self.records = self.records * MEMORY + count;
        self.seconds = self.seconds * MEMORY + took.as_secs_f64();
        self.proven = self.proven.max(records);
        if let Some(cap) = &mut self.cap
            && records >= *cap
        {
            self.answers_at_cap += 1;
            *cap += usize::from(self.answers_at_cap.is_multiple_of(ANSWERS_PER_STEP));
        }
    }

    /// A batch of `records` did not make it in time.
    pub fn timed_out(&mut self, records: usize) {
        // A single record fits at any size, or never.
        if records < 2 || records <= self.proven {
            self.proven = self.proven.min(records.saturating_sub(1));
            return;
        }
        let half = (records / 2).max(1);
        self.cap = Some(self.cap.map_or(half, |cap| cap.min(half)));
        self.answers_at_cap = 0;
    }

    /// The time per record, once a batch was answered.
    pub fn per_record(&self) -> Option<Duration> {
        (self.records > 0.0).then(|| Duration::from_secs_f64(self.seconds / self.records))
    }

    /// The largest batch that fits `budget`, as far as is known.
    pub fn largest(&self, budget: Duration) -> Option<usize> {
        let measured = self.per_record().filter(|each| !each.is_zero()).map(|each| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a ratio of durations is positive, and `as` saturates"
            )]
            let fitting = (budget.as_secs_f64() / each.as_secs_f64()).floor() as usize;
            fitting.max(1)
        });
        [measured, self.cap].into_iter().flatten().min()
    }

    /// The estimated time for `records` more, once a batch was answered.
    pub fn estimate(&self, records: u64) -> Option<Duration> {
        let each = self.per_record()?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = each.as_secs_f64() * records as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(45);

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(ServiceTime::default().largest(BUDGET), None);
        assert_eq!(ServiceTime::default().estimate(10), None);
    }

    #[test]
    fn thirty_records_in_35_s_and_a_margin_of_a_quarter_give_22_to_25() {
        let mut model = ServiceTime::default();
        model.answered(30, Duration::from_secs(35));
        let limit = Duration::from_secs(35).mul_f64(0.75);
        assert_eq!(model.largest(limit), Some(22));
    }

    #[test]
    fn a_time_out_halves_and_answers_give_back() {
        let mut model = ServiceTime::default();
        let fast = Duration::from_millis(1);
        model.timed_out(50);
        assert_eq!(model.largest(BUDGET), Some(25));
        model.timed_out(25);
        assert_eq!(model.largest(BUDGET), Some(12));
        model.answered(3, fast);
        assert_eq!(model.largest(BUDGET), Some(12), "a small batch proves nothing about the cap");
        for _ in 0..4 {
            model.answered(12, fast);
        }
        assert_eq!(model.largest(BUDGET), Some(13));
    }

    #[test]
    fn a_size_that_was_answered_just_before_is_not_at_fault_until_it_fails_again() {
        let mut model = ServiceTime::default();
        model.answered(25, Duration::from_millis(1));
        let before = model.largest(BUDGET);
        model.timed_out(25);
        assert_eq!(model.largest(BUDGET), before);
        model.timed_out(1);
        assert_eq!(model.largest(BUDGET), before);
        model.timed_out(25);
        assert_eq!(model.largest(BUDGET), Some(12));
    }

    #[test]
    fn a_single_slow_record_weighs_less_than_a_batch() {
        let mut model = ServiceTime::default();
        model.answered(25, Duration::from_secs(27));
        let before = model.largest(BUDGET).unwrap();
        model.answered(1, Duration::from_secs(3));
        let after = model.largest(BUDGET).unwrap();
        assert!(before - after <= 4, "{before} → {after}");
    }
}
