//! A fixed script with every operation, and every kind of record and outcome.

use super::steps::QueueStep;
use super::support::HOUR_MS;
use crate::model::BatchPhase;

/// Records with these numbers. Every fifth has chunks.
fn append(numbers: std::ops::RangeInclusive<u8>) -> QueueStep {
    QueueStep::Append(1, numbers.map(|number| (number, 1, 0)).collect())
}

/// Every record of the batch is synced, quarantined or retried.
const SYNCED: u8 = 0;
const QUARANTINED: u8 = 3;
const FAILED: u8 = 5;

pub(super) fn script() -> Vec<QueueStep> {
    let all = u64::MAX;
    vec![
        append(1..=10),
        QueueStep::Append(1, vec![(11, 1, 9), (12, 1, 10)]),
        QueueStep::Claim(4, all),
        QueueStep::Keep(0, BatchPhase::Unclear, false),
        QueueStep::Dispatch(0),
        QueueStep::Keep(0, BatchPhase::Waiting, true),
        QueueStep::Pause(true),
        QueueStep::Rename(0),
        QueueStep::Dispatch(0),
        QueueStep::Crash,
        QueueStep::Cut(0, 0, true),
        QueueStep::Dispatch(0),
        QueueStep::Close(0, Vec::new(), FAILED, Some(3)),
        QueueStep::Quiet,
        QueueStep::Dispatch(0),
        QueueStep::Close(0, Vec::new(), QUARANTINED, None),
        QueueStep::Close(0, Vec::new(), QUARANTINED, Some(2)),
        QueueStep::Rest,
        QueueStep::Expedite,
        QueueStep::ReplacePayload(4, 4),
        QueueStep::ReplacePayload(6, 2),
        QueueStep::Review(vec![2, 4, 7], false, false, None),
        QueueStep::Pause(false),
        QueueStep::Reopen,
        QueueStep::Close(0, Vec::new(), SYNCED, Some(5)),
        QueueStep::Review(Vec::new(), true, true, None),
        append(13..=20),
        QueueStep::Wait(HOUR_MS),
        QueueStep::Claim(2, 40),
        QueueStep::Close(0, Vec::new(), SYNCED, Some(10)),
        QueueStep::Close(0, Vec::new(), SYNCED, Some(20)),
        QueueStep::Wait(2 * HOUR_MS),
        QueueStep::Close(0, Vec::new(), SYNCED, Some(20)),
        QueueStep::Rest,
        append(21..=24),
        QueueStep::Claim(3, all),
        QueueStep::Keep(0, BatchPhase::Waiting, true),
        QueueStep::Add(vec![22]),
        QueueStep::Claim(2, all),
        QueueStep::Keep(0, BatchPhase::Waiting, false),
        QueueStep::Rename(0),
        QueueStep::Add(vec![21, 24]),
        QueueStep::Append(2, vec![(21, 1, 0), (22, 1, 9), (25, 1, 0)]),
        QueueStep::ShareKeys(true),
        QueueStep::Add(vec![61, 62]),
        QueueStep::Review(Vec::new(), true, true, Some(2)),
        QueueStep::ShareKeys(false),
        QueueStep::Review(Vec::new(), true, false, Some(1)),
    ]
}
