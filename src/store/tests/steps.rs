//! The operations on a queue, and random schedules of them.

use proptest::prelude::*;

use super::support::{HOUR_MS, id, receipt, test_error};
use crate::model::{BatchPhase, LastError, NewRecord};
use crate::policy::scheduler::Outcome;
use crate::protocol::receipt::RECEIPT_BYTES_MAX;

/// A uid.
pub(super) type Submitter = u32;
/// Users who submit records.
pub(super) const SUBMITTERS: [Submitter; 2] = [1, 2];
/// How many records each user has.
pub(super) const NUMBERS: u8 = 40;

#[derive(Clone, Debug)]
pub(super) enum QueueStep {
    /// By one of two users.
    Append(Submitter, Vec<(u8, u8, u8)>),
    Claim(usize, u64),
    Dispatch(usize),
    Close(usize, Vec<(u8, u8)>, u8, Option<usize>),
    Keep(usize, BatchPhase, bool),
    Cut(usize, u8, bool),
    Rename(usize),
    Review(Vec<u8>, bool, bool, Option<Submitter>),
    Add(Vec<u8>),
    ReplacePayload(u8, u8),
    Expedite,
    Pause(bool),
    Wait(u64),
    Reopen,
    /// With shared keys or not.
    ShareKeys(bool),
    Crash,
    Quiet,
    Rest,
}

fn any_submitter() -> impl Strategy<Value = Submitter> {
    prop::sample::select(SUBMITTERS.to_vec())
}

/// The variant of a record with the id of another user's record.
const ID_OF_ANOTHER: u8 = 19;

/// An index of an open batch.
fn any_index() -> impl Strategy<Value = usize> {
    0usize..720
}

pub(super) fn any_steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let phase = prop::sample::select(vec![BatchPhase::Unclear, BatchPhase::Waiting]);
    let step = prop_oneof![
        5 => (any_submitter(), prop::collection::vec((0..NUMBERS, 0u8..20, 0u8..12), 1..8))
            .prop_map(|(submitter, records)| QueueStep::Append(submitter, records)),
        6 => (1usize..6, prop::sample::select(vec![1u64, 40, u64::MAX])).prop_map(|(n, b)| QueueStep::Claim(n, b)),
        4 => any_index().prop_map(QueueStep::Dispatch),
        6 => (any_index(), prop::collection::vec((0..2 * NUMBERS + 5, 0u8..6), 0..8), 0u8..6,
              prop::option::of(1usize..4)).prop_map(|(i, o, m, t)| QueueStep::Close(i, o, m, t)),
        3 => (any_index(), phase, any::<bool>()).prop_map(|(i, p, e)| QueueStep::Keep(i, p, e)),
        4 => (any_index(), 0u8..3, any::<bool>()).prop_map(|(i, c, e)| QueueStep::Cut(i, c, e)),
        1 => any_index().prop_map(QueueStep::Rename),
        3 => (prop::collection::vec(0..2 * NUMBERS, 0..40), any::<bool>(), any::<bool>(),
              prop::option::of(any_submitter()))
            .prop_map(|(ids, all, retry, submitter)| QueueStep::Review(ids, all, retry, submitter)),
        2 => prop::collection::vec(0..2 * NUMBERS, 1..6).prop_map(QueueStep::Add),
        2 => (0..2 * NUMBERS, 0u8..3).prop_map(|(id, n)| QueueStep::ReplacePayload(id, n)),
        1 => Just(QueueStep::Expedite),
        1 => any::<bool>().prop_map(QueueStep::Pause),
        2 => (1u64..HOUR_MS).prop_map(QueueStep::Wait),
        1 => Just(QueueStep::Reopen),
        1 => any::<bool>().prop_map(QueueStep::ShareKeys),
        1 => Just(QueueStep::Crash),
        1 => Just(QueueStep::Quiet),
        1 => Just(QueueStep::Rest),
    ];
    prop::collection::vec(step, 1..70)
}

/// The number determines the content, so that most repetitions are duplicates and a few conflict: in content, or
/// because the id belongs to another user. Every fifth has chunks.
pub(super) fn new_record(submitter: Submitter, (number, variant, priority): (u8, u8, u8)) -> NewRecord {
    let is_others = (submitter == SUBMITTERS[1]) != (variant == ID_OF_ANOTHER);
    let filling =
        if number.is_multiple_of(5) { "x".repeat(4_000 + 300 * usize::from(number)) } else { String::new() };
    let variant = u8::from(variant == 0);
    NewRecord {
        id: id(u128::from(if is_others { number + NUMBERS } else { number })),
        record_type: if number.is_multiple_of(3) { "A" } else { "B" }.into(),
        key: Some(number % 4).filter(|key| *key > 0).map(|key| format!("key-{key}")),
        priority: [5, 5, 5, 5, 5, 5, 5, 5, 5, 9, 0, 5][usize::from(priority)],
        payload: format!("{{\"n\":{number},\"variant\":{variant},\"filling\":\"{filling}\"}}").into(),
    }
}

pub(super) fn outcome(pick: u8) -> Outcome {
    match pick {
        0 => Outcome::Synced(None),
        1 => Outcome::Synced(receipt(20)),
        2 => Outcome::Synced(receipt(RECEIPT_BYTES_MAX)),
        3 => Outcome::Quarantine(LastError { field: Some("/n".into()), ..test_error("no") }),
        _ => Outcome::Retry(test_error("later")),
    }
}
