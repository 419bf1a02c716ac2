//! The search for a record at fault: a batch that failed is cut in half, a half in micro-batches,
//! a micro-batch in single records; and the evidence that a single record must gather before it
//! is set aside.
//!
//! A failure says as much about the server as about the record. So a record's failure alone
//! counts only when other records got through shortly before *and* shortly after it; an outage,
//! in which nothing gets through, gathers no evidence against anybody.

use std::time::Duration;

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

/// The next step of the search in a batch of `records`; none for a single one.
pub fn cut(stage: Stage, records: usize, micro_batch: usize) -> Option<Cut> {
    match stage {
        _ if records < 2 => None,
        Stage::Fresh if records > micro_batch => Some(halves(records)),
        Stage::Fresh | Stage::Half if records > micro_batch => {
            Some(chunks(records, micro_batch, Stage::Micro))
        }
        _ => Some(chunks(records, 1, Stage::Single)),
    }
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

/// What speaks against one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Failures alone with a success of others before and after.
    pub counted: u32,
    /// A failure with a success before it that waits for the success after it.
    pending: Option<Duration>,
}

impl Evidence {
    /// As it was kept over a restart.
    pub fn restored(counted: u32) -> Self {
        Self { counted, pending: None }
    }

    /// The record failed alone; others last got through at `last_success`.
    pub fn failed_alone(&mut self, now: Duration, last_success: Option<Duration>) {
        if near(last_success, now) {
            self.pending = Some(now);
        }
    }

    /// Others got through. True when that makes a failure count.
    pub fn others_succeeded(&mut self, now: Duration) -> bool {
        let counts = near(self.pending.take(), now);
        self.counted += u32::from(counts);
        counts
    }

    /// Whether a failure waits for a success of others: until then, trying again proves nothing new.
    pub fn wants_control(&self) -> bool {
        self.pending.is_some()
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
            let found = cut(stage, records, 10).map(|cut| (cut.parts, cut.stage));
            assert_eq!(found, expected, "{stage:?} of {records}");
        }
    }

    proptest! {
        #[test]
        fn a_search_ends_and_loses_nobody(records in 2usize..2000, micro in 1usize..60) {
            let (mut stage, mut size, mut steps) = (Stage::Fresh, records, 0);
            while let Some(next) = cut(stage, size, micro) {
                prop_assert_eq!(next.parts.iter().sum::<usize>(), size);
                prop_assert!(next.parts.iter().all(|part| *part > 0 && *part < size));
                stage = next.stage;
                size = *next.parts.iter().max().unwrap();
                steps += 1;
            }
            prop_assert!(size == 1 && steps <= 3, "{} steps to {}", steps, size);
        }
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
