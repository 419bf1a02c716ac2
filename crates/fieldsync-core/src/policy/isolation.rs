//! The search for a faulty record. A batch that failed is cut into parts, and a part that fails is cut again, down to a
//! single record. How often that must fail alone before it is quarantined depends on how often batches fail without a
//! faulty record. Which failures count: [`super::evidence`].

use serde::{Deserialize, Serialize};

use crate::model::Stage;

/// How a batch is cut into parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Records in each part, in queue order; they add up to the batch.
    pub parts: Vec<usize>,
    /// How far the search has come for each part.
    pub stage: Stage,
}

/// What a step of the search costs, in seconds, once both were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchCosts {
    /// A part that is stored: its overhead beyond what its records cost anyway.
    pub pass_seconds: f64,
    /// A part that fails.
    pub failure_seconds: f64,
}

/// The next step of the search in a batch of `records`; none for a single one.
///
/// Without costs, it follows the customer's ladder: halves, micro-batches, single records. With costs, it is the first
/// step of the cheapest search, assuming one faulty record: every part of every level is sent, and one of each level
/// fails. There are at most `micro_batch` parts. A part is at most half of the batch, and below a half, at most a
/// micro-batch.
pub fn plan_cut(stage: Stage, records: usize, micro_batch: usize, costs: Option<SearchCosts>) -> Option<Cut> {
    match stage {
        _ if records < 2 => None,
        _ if costs.is_some() => {
            let size = costs.map_or(1, |costs| cheapest_part(records, micro_batch, costs));
            let most = if stage == Stage::Fresh { records.div_ceil(2) } else { micro_batch };
            let size = size.min(most).min(records.div_ceil(2)).max(1);
            let stage = match size {
                1 => Stage::Single,
                size if size <= micro_batch => Stage::Micro,
                _ => Stage::Half,
            };
            Some(cut_into_parts(records, size, stage))
        }
        Stage::Fresh if records > micro_batch => Some(cut_in_half(records)),
        Stage::Fresh | Stage::Half if records > micro_batch => {
            Some(cut_into_parts(records, micro_batch, Stage::Micro))
        }
        _ => Some(cut_into_parts(records, 1, Stage::Single)),
    }
}

/// The size of the parts in the cheapest search. With `levels` equal steps, each step has `records^(1/levels)` parts;
/// all but one of them are stored, and all steps but the last cost a failure.
fn cheapest_part(records: usize, most_parts: usize, costs: SearchCosts) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 records")]
    let (count, most_parts) = (records as f64, most_parts.max(2) as f64);
    let fan_out = |levels: u32| count.powf(1.0 / f64::from(levels));
    let cost = |levels: u32| {
        f64::from(levels) * (fan_out(levels) - 1.0) * costs.pass_seconds
            + f64::from(levels - 1) * costs.failure_seconds
    };
    let deepest = count.log2().ceil().max(1.0);
    let levels = (1..=32u32).take_while(|levels| f64::from(*levels) <= deepest);
    let levels = levels.filter(|levels| fan_out(*levels) <= most_parts || f64::from(*levels) >= deepest);
    let best = levels.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `records`")]
    let size = (count / fan_out(best)).ceil() as usize;
    size
}

/// Two halves; also for a batch that is too large.
pub fn cut_in_half(records: usize) -> Cut {
    cut_into_parts(records, records.div_ceil(2), Stage::Half)
}

fn cut_into_parts(records: usize, size: usize, stage: Stage) -> Cut {
    let whole = std::iter::repeat_n(size, records / size);
    let rest = Some(records % size).filter(|rest| *rest > 0);
    Cut { parts: whole.chain(rest).collect(), stage }
}

/// How often batches fail without a faulty record in them. The JSON names are those on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Glitches {
    sent: f64,
    #[serde(rename = "innocent")]
    faultless_failures: f64,
    #[serde(rename = "culprits")]
    faulty_records: f64,
}

/// The factor by which each batch reduces the weight of earlier ones.
const GLITCH_DECAY: f64 = 0.995;
/// The assumption before anything was measured: one batch in twenty.
const INITIAL_SENDS: f64 = 20.0;
const INITIAL_FAULTLESS_FAILURES: f64 = 1.0;
/// By the share of batches that fail without a faulty record: how often a record must fail alone. After that many
/// failures, the odds that the record is faulty are 1000 to 1, if one record in 1000 is (Bayes' rule: the logarithm of
/// a million divided by that of the share).
const FAILURES_BY_GLITCH_SHARE: [(f64, u32); 6] =
    [(0.01, 3), (0.03, 4), (0.06, 5), (0.12, 7), (0.25, 10), (0.42, 16)];
/// The number for any larger share.
const LONE_FAILURES_MAX: u32 = 20;

impl Glitches {
    /// A batch was sent, and it succeeded or failed.
    pub fn record_send(&mut self) {
        self.sent = self.sent * GLITCH_DECAY + 1.0;
        self.faultless_failures *= GLITCH_DECAY;
        self.faulty_records *= GLITCH_DECAY;
    }

    /// A batch that failed turned out to have no faulty record.
    pub fn record_faultless_failure(&mut self) {
        self.faultless_failures += 1.0;
    }

    /// A faulty record was found.
    pub fn record_faulty_record(&mut self) {
        self.faulty_records += 1.0;
    }

    /// The probability that a batch that failed has no faulty record.
    pub fn faultless_share(&self) -> f64 {
        (self.faultless_failures + 1.0) / (self.faultless_failures + self.faulty_records + 2.0)
    }

    /// How often a record must fail alone before glitches cannot explain it any more. `ancestors`: failed batches that
    /// contained it before it was sent alone.
    pub fn failures_needed(&self, ancestors: u32) -> u32 {
        let share = (self.faultless_failures + INITIAL_FAULTLESS_FAILURES) / (self.sent + INITIAL_SENDS);
        let row = FAILURES_BY_GLITCH_SHARE.into_iter().find(|(most, _)| share <= *most);
        row.map_or(LONE_FAILURES_MAX, |(_, failures)| failures).saturating_sub(ancestors).max(1)
    }
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
            let found = plan_cut(stage, records, 10, None).map(|cut| (cut.parts, cut.stage));
            assert_eq!(found, expected, "{stage:?} of {records}");
        }
    }

    proptest! {
        #[test]
        fn a_search_ends_and_loses_no_record(
            records in 2usize..2000, micro in 1usize..60, failure in 0.001f64..1000.0, with_costs: bool,
        ) {
            let costs = with_costs.then_some(SearchCosts { pass_seconds: 1.0, failure_seconds: failure });
            let (mut stage, mut size, mut steps) = (Stage::Fresh, records, 0);
            while let Some(next) = plan_cut(stage, size, micro, costs) {
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
    fn the_more_a_failure_costs_the_finer_the_cut() {
        for (records, failure, expected) in [
            (37, 0.2, vec![19, 18]),
            (37, 7.5, vec![7, 7, 7, 7, 7, 2]),
            (37, 1000.0, vec![7, 7, 7, 7, 7, 2]),
            (9, 7.5, vec![1; 9]),
            (9, 0.5, vec![5, 4]),
            (2, 1.0, vec![1, 1]),
        ] {
            let found = plan_cut(
                Stage::Fresh,
                records,
                10,
                Some(SearchCosts { pass_seconds: 1.0, failure_seconds: failure }),
            )
            .unwrap();
            assert_eq!(found.parts, expected, "{records} records, a failure costs {failure}");
        }
        let of_a_part =
            plan_cut(Stage::Half, 60, 10, Some(SearchCosts { pass_seconds: 1.0, failure_seconds: 0.1 }))
                .unwrap();
        assert!(of_a_part.parts.iter().all(|part| *part <= 10), "{of_a_part:?}");
    }

    #[test]
    fn the_more_glitches_the_more_failures_it_takes() {
        let needed = |sent: u32, glitches: u32| {
            let mut seen = Glitches::default();
            (0..sent).for_each(|_| seen.record_send());
            (0..glitches).for_each(|_| seen.record_faultless_failure());
            seen.failures_needed(2)
        };
        assert_eq!([needed(0, 0), needed(100, 0), needed(100, 10), needed(100, 40)], [3, 2, 5, 14]);
    }
}
