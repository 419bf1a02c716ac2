//! The search for a record at fault: a batch that failed is cut in parts, a part that fails is cut
//! again, down to the single record; and the evidence that a single record must gather before it
//! is set aside.
//!
//! A failure says as much about the server as about the record. So a record's failure alone
//! counts only when other records got through shortly before *and* shortly after it, and nobody
//! else failed in between; an outage, in which everybody fails, gathers no evidence against anybody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Stage;

/// How near a success of others must be to a failure to say that the server was well.
pub const CONTROL_WINDOW: Duration = Duration::from_mins(15);

/// How a batch that failed is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Records in each part, in queue order; they add up to the batch.
    pub parts: Vec<usize>,
    /// Where the parts stand in the search.
    pub stage: Stage,
}

/// What the search costs, in seconds, once both were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A part that gets through, beyond what its records cost anyway.
    pub pass: f64,
    /// A part that fails.
    pub failure: f64,
}

/// The next step of the search in a batch of `records`; none for a single one.
///
/// Without prices it is the customer's ladder: halves, micro-batches, single records. With prices
/// it is the first step of the search that costs least in all, if one record is at fault: every part of
/// every level is sent, and one of each level fails. Parts are never more than `micro_batch` at a time,
/// nor larger than half, nor, below a half, than a micro-batch.
pub fn cut(stage: Stage, records: usize, micro_batch: usize, prices: Option<Prices>) -> Option<Cut> {
    match stage {
        _ if records < 2 => None,
        _ if prices.is_some() => {
            let size = prices.map_or(1, |prices| cheapest_part(records, micro_batch, prices));
            let most = if stage == Stage::Fresh { records.div_ceil(2) } else { micro_batch };
            let size = size.min(most).min(records.div_ceil(2)).max(1);
            let stage = match size {
                1 => Stage::Single,
                size if size <= micro_batch => Stage::Micro,
                _ => Stage::Half,
            };
            Some(chunks(records, size, stage))
        }
        Stage::Fresh if records > micro_batch => Some(halves(records)),
        Stage::Fresh | Stage::Half if records > micro_batch => {
            Some(chunks(records, micro_batch, Stage::Micro))
        }
        _ => Some(chunks(records, 1, Stage::Single)),
    }
}

/// The size of the parts of the cheapest search down to one of `records`: of the `records^(1/levels)` parts
/// of each of `levels` equal steps all but one get through, and all steps but the last cost a failure.
fn cheapest_part(records: usize, most_parts: usize, prices: Prices) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 records")]
    let (count, most_parts) = (records as f64, most_parts.max(2) as f64);
    let fan_out = |levels: u32| count.powf(1.0 / f64::from(levels));
    let cost = |levels: u32| {
        f64::from(levels) * (fan_out(levels) - 1.0) * prices.pass + f64::from(levels - 1) * prices.failure
    };
    let deepest = count.log2().ceil().max(1.0);
    let levels = (1..=32u32).take_while(|levels| f64::from(*levels) <= deepest);
    let levels = levels.filter(|levels| fan_out(*levels) <= most_parts || f64::from(*levels) >= deepest);
    let best = levels.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `records`")]
    let size = (count / fan_out(best)).ceil() as usize;
    size
}

/// Two halves: also for a batch that is too large as a whole.
pub fn halves(records: usize) -> Cut {
    chunks(records, records.div_ceil(2), Stage::Half)
}

fn chunks(records: usize, size: usize, stage: Stage) -> Cut {
    let whole = std::iter::repeat_n(size, records / size);
    let rest = Some(records % size).filter(|rest| *rest > 0);
    Cut { parts: whole.chain(rest).collect(), stage }
}

/// How often batches fail for no reason that is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Glitches {
    sent: f64,
    innocent: f64,
    culprits: f64,
}

/// What one more batch leaves of the weight of those before.
const GLITCH_MEMORY: f64 = 0.995;
/// What is thought before anything was seen: one in twenty.
const FIRST_SENT: f64 = 20.0;
const FIRST_GLITCHES: f64 = 1.0;
/// How often a record must fail alone where up to this share of batches fails for no reason in them: so often that the
/// failures are its own by 1000 to 1, if one record in 1000 is at fault (Bayes' rule: the logarithm of a million by
/// that of the share).
const FAILURES_BY_GLITCH_SHARE: [(f64, u32); 6] =
    [(0.01, 3), (0.03, 4), (0.06, 5), (0.12, 7), (0.25, 10), (0.42, 16)];
/// And where more fail.
const FAILURES_MAX: u32 = 20;

impl Glitches {
    /// A batch was sent, and answered or failed.
    pub fn sent(&mut self) {
        self.sent = self.sent * GLITCH_MEMORY + 1.0;
        self.innocent *= GLITCH_MEMORY;
        self.culprits *= GLITCH_MEMORY;
    }

    /// A batch that failed turned out to have no record at fault in it.
    pub fn innocent(&mut self) {
        self.innocent += 1.0;
    }

    /// A record at fault was found.
    pub fn culprit(&mut self) {
        self.culprits += 1.0;
    }

    /// How likely it is that a batch that failed has no record at fault in it.
    pub fn share_of_failures(&self) -> f64 {
        (self.innocent + 1.0) / (self.innocent + self.culprits + 2.0)
    }

    /// How often a record must fail alone until it is out of proportion to the glitches, where
    /// `ancestors` batches with it failed before it was alone.
    pub fn failures_needed(&self, ancestors: u32) -> u32 {
        let share = (self.innocent + FIRST_GLITCHES) / (self.sent + FIRST_SENT);
        let row = FAILURES_BY_GLITCH_SHARE.into_iter().find(|(most, _)| share <= *most);
        row.map_or(FAILURES_MAX, |(_, failures)| failures).saturating_sub(ancestors).max(1)
    }
}

/// What speaks against one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Failures alone with a success of others before and after.
    pub counted: u32,
    /// A failure with a success before it that waits for the success after it.
    pending: Option<Duration>,
    /// A failure that the look-up has yet to confirm.
    unclear: Option<Unclear>,
}

/// What happened around a failure before it was known to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unclear {
    at: Duration,
    success_before: Option<Duration>,
    success_after: Option<Duration>,
}

impl Evidence {
    /// As it was kept over a restart.
    pub fn restored(counted: u32) -> Self {
        Self { counted, ..Self::default() }
    }

    /// The record got no answer alone; others last got through at `last_success`.
    pub fn suspected(&mut self, now: Duration, last_success: Option<Duration>) {
        self.unclear = Some(Unclear { at: now, success_before: last_success, success_after: None });
    }

    /// The record failed alone; others last got through at `last_success`. When the failure was
    /// unclear before, its time and what happened around it are those that count.
    pub fn failed_alone(&mut self, now: Duration, last_success: Option<Duration>) {
        let now = Unclear { at: now, success_before: last_success, success_after: None };
        let failure = self.unclear.take().unwrap_or(now);
        if near(failure.success_before, failure.at) {
            self.pending = Some(failure.at);
            if let Some(after) = failure.success_after {
                self.others_succeeded(after);
            }
        }
    }

    /// Others got through. True when that makes a failure count.
    pub fn others_succeeded(&mut self, now: Duration) -> bool {
        if let Some(unclear) = &mut self.unclear {
            unclear.success_after.get_or_insert(now);
        }
        let counts = near(self.pending.take(), now);
        self.counted += u32::from(counts);
        counts
    }

    /// Others failed as well: the failure that waits says nothing about this record.
    pub fn others_failed(&mut self) {
        self.pending = None;
        if let Some(unclear) = self.unclear.as_mut().filter(|unclear| unclear.success_after.is_none()) {
            unclear.success_before = None;
        }
    }

    /// Whether the record is under suspicion.
    pub fn suspects(&self) -> bool {
        self.counted > 0 || self.wants_control()
    }

    /// Whether a failure waits for a success of others: until then, trying again proves nothing new.
    pub fn wants_control(&self) -> bool {
        let waits = |unclear: Unclear| unclear.success_before.is_some() && unclear.success_after.is_none();
        self.pending.is_some() || self.unclear.is_some_and(waits)
    }
}

/// Whether something that happened `then` is near enough to `now` to speak of the same server.
pub fn near(then: Option<Duration>, now: Duration) -> bool {
    then.is_some_and(|then| now.saturating_sub(then) <= CONTROL_WINDOW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ladder_of_the_customer() {
        for (stage, records, expected) in [
            (Stage::Fresh, 50, Some((vec![25, 25], Stage::Half))),
            (Stage::Fresh, 25, Some((vec![13, 12], Stage::Half))),
            (Stage::Half, 25, Some((vec![10, 10, 5], Stage::Micro))),
            (Stage::Half, 13, Some((vec![10, 3], Stage::Micro))),
            (Stage::Half, 10, Some((vec![1; 10], Stage::Single))),
            (Stage::Fresh, 10, Some((vec![1; 10], Stage::Single))),
            (Stage::Micro, 10, Some((vec![1; 10], Stage::Single))),
            (Stage::Micro, 2, Some((vec![1, 1], Stage::Single))),
            (Stage::Single, 1, None),
            (Stage::Fresh, 1, None),
        ] {
            let found = cut(stage, records, 10, None).map(|cut| (cut.parts, cut.stage));
            assert_eq!(found, expected, "{stage:?} of {records}");
        }
    }

    proptest! {
        #[test]
        fn a_search_ends_and_loses_nobody(
            records in 2usize..2000, micro in 1usize..60, failure in 0.001f64..1000.0, priced: bool,
        ) {
            let prices = priced.then_some(Prices { pass: 1.0, failure });
            let (mut stage, mut size, mut steps) = (Stage::Fresh, records, 0);
            while let Some(next) = cut(stage, size, micro, prices) {
                prop_assert_eq!(next.parts.iter().sum::<usize>(), size);
                prop_assert!(next.parts.iter().all(|part| *part > 0 && *part < size));
                stage = next.stage;
                size = *next.parts.iter().max().unwrap();
                steps += 1;
            }
            prop_assert!(size == 1 && steps <= 12, "{} steps to {}", steps, size);
        }
    }

    #[test]
    fn the_search_is_as_fine_as_failures_are_dear() {
        for (records, failure, expected) in [
            (37, 0.2, vec![19, 18]),
            (37, 7.5, vec![7, 7, 7, 7, 7, 2]),
            (37, 1000.0, vec![7, 7, 7, 7, 7, 2]),
            (9, 7.5, vec![1; 9]),
            (9, 0.5, vec![5, 4]),
            (2, 1.0, vec![1, 1]),
        ] {
            let found = cut(Stage::Fresh, records, 10, Some(Prices { pass: 1.0, failure })).unwrap();
            assert_eq!(found.parts, expected, "{records} records, a failure costs {failure}");
        }
        let of_a_part = cut(Stage::Half, 60, 10, Some(Prices { pass: 1.0, failure: 0.1 })).unwrap();
        assert!(of_a_part.parts.iter().all(|part| *part <= 10), "{of_a_part:?}");
    }

    #[test]
    fn the_more_glitches_the_more_failures_it_takes() {
        let needed = |sent: u32, glitches: u32| {
            let mut seen = Glitches::default();
            (0..sent).for_each(|_| seen.sent());
            (0..glitches).for_each(|_| seen.innocent());
            seen.failures_needed(2)
        };
        assert_eq!([needed(0, 0), needed(100, 0), needed(100, 10), needed(100, 40)], [3, 2, 5, 14]);
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Fail,
        Success,
        Wait(u32),
    }

    fn counted(events: &[Event]) -> u32 {
        let (mut evidence, mut now, mut last_success) = (Evidence::default(), Duration::ZERO, None);
        for event in events {
            now += Duration::from_secs(1);
            match event {
                Event::Fail => evidence.failed_alone(now, last_success),
                Event::Success => {
                    last_success = Some(now);
                    evidence.others_succeeded(now);
                }
                Event::Wait(minutes) => now += MINUTE * *minutes,
            }
        }
        evidence.counted
    }

    #[test]
    fn a_failure_counts_between_two_successes_of_others() {
        use Event::{Fail, Success, Wait};
        for (events, expected) in [
            (&[Success, Fail, Success][..], 1),
            (&[Success, Fail, Success, Fail, Success, Fail, Success], 3),
            (&[Fail, Fail, Fail, Fail], 0),
            (&[Fail, Success], 0),
            (&[Success, Fail, Fail, Fail, Success], 1),
            (&[Success, Fail], 0),
            (&[Success, Wait(20), Fail, Success], 0),
            (&[Success, Fail, Wait(20), Success], 0),
            (&[Success, Success, Fail, Success, Success], 1),
        ] {
            assert_eq!(counted(events), expected, "{events:?}");
        }
    }

    #[test]
    fn a_success_of_others_while_the_failure_was_looked_up_counts() {
        let second = Duration::from_secs;
        let mut evidence = Evidence::default();
        evidence.suspected(second(10), Some(second(9)));
        assert!(!evidence.others_succeeded(second(11)));
        assert_eq!(evidence.counted, 0, "the server may have it");
        evidence.failed_alone(second(15), Some(second(11)));
        assert_eq!((evidence.counted, evidence.wants_control()), (1, false));
        evidence.suspected(second(16), Some(second(11)));
        evidence.failed_alone(second(20), Some(second(11)));
        assert_eq!((evidence.counted, evidence.wants_control()), (1, true));
    }

    #[test]
    fn a_failure_among_failures_of_others_does_not_count() {
        let second = Duration::from_secs;
        let mut evidence = Evidence::default();
        evidence.failed_alone(second(10), Some(second(9)));
        evidence.others_failed();
        assert!(!evidence.others_succeeded(second(11)));
        evidence.suspected(second(12), Some(second(11)));
        evidence.others_failed();
        evidence.others_succeeded(second(13));
        evidence.failed_alone(second(14), Some(second(13)));
        assert_eq!(evidence.counted, 0);
    }

    proptest! {
        #[test]
        fn an_outage_gathers_no_evidence(before in 0usize..5, failures in 0usize..50, after in 0usize..5) {
            let events = [
                vec![Event::Success; before],
                vec![Event::Wait(16)],
                vec![Event::Fail; failures],
                vec![Event::Success; after],
            ]
            .concat();
            prop_assert_eq!(counted(&events), 0);
        }
    }
}
