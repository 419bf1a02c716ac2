//! A fixed day in the life of a queue: every operation, and every kind of record and ending.

use super::steps::Step;
use super::support::HOUR;
use crate::model::BatchPhase;

/// Records with these numbers; every fifth has chunks.
fn append(numbers: std::ops::RangeInclusive<u8>) -> Step {
    Step::Append(1, numbers.map(|number| (number, 1, 0)).collect())
}

/// Every record of the batch is synced, under review, or tried again.
const SYNCED: u8 = 0;
const QUARANTINED: u8 = 3;
const FAILED: u8 = 5;

pub(super) fn script() -> Vec<Step> {
    let all = u64::MAX;
    vec![
        append(1..=10),
        Step::Append(1, vec![(11, 1, 9), (12, 1, 10)]),
        Step::Claim(4, all),
        Step::Keep(0, BatchPhase::Unclear, false),
        Step::Dispatch(0),
        Step::Keep(0, BatchPhase::Waiting, true),
        Step::Pause(true),
        Step::Rename(0),
        Step::Dispatch(0),
        Step::Crash,
        Step::Cut(0, 0, true),
        Step::Dispatch(0),
        Step::Close(0, Vec::new(), FAILED, Some(3)),
        Step::Quiet,
        Step::Dispatch(0),
        Step::Close(0, Vec::new(), QUARANTINED, None),
        Step::Close(0, Vec::new(), QUARANTINED, Some(2)),
        Step::Rest,
        Step::Expedite,
        Step::Mend(4, 4),
        Step::Mend(6, 2),
        Step::Review(vec![2, 4, 7], false, false, None),
        Step::Pause(false),
        Step::Reopen,
        Step::Close(0, Vec::new(), SYNCED, Some(5)),
        Step::Review(Vec::new(), true, true, None),
        append(13..=20),
        Step::Wait(HOUR),
        Step::Claim(2, 40),
        Step::Close(0, Vec::new(), SYNCED, Some(10)),
        Step::Close(0, Vec::new(), SYNCED, Some(20)),
        Step::Wait(2 * HOUR),
        Step::Close(0, Vec::new(), SYNCED, Some(20)),
        Step::Rest,
        append(21..=24),
        Step::Claim(3, all),
        Step::Keep(0, BatchPhase::Waiting, true),
        Step::Add(vec![22]),
        Step::Claim(2, all),
        Step::Keep(0, BatchPhase::Waiting, false),
        Step::Rename(0),
        Step::Add(vec![21, 24]),
        Step::Append(2, vec![(21, 1, 0), (22, 1, 9), (25, 1, 0)]),
        Step::ShareKeys(true),
        Step::Add(vec![61, 62]),
        Step::Review(Vec::new(), true, true, Some(2)),
        Step::ShareKeys(false),
        Step::Review(Vec::new(), true, false, Some(1)),
    ]
}
