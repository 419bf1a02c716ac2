//! Tables of sends in order, and random interleavings of batches that an outage meets.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SUSPECT: u128 = 1_000;

fn id(number: u128) -> BatchId {
    BatchId(Uuid::from_u128(number))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A batch that was sent and ended at these seconds.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Stored(u64, u64),
    Failed(u64, u64),
    Awaited(u64),
}

use Sent::{Awaited, Failed, Stored};

/// The log of others, with the suspect between them, which was sent and failed at these seconds.
fn log_with_suspect(others: &[Sent], suspect: (u64, u64)) -> (SendLog, LoneFailure) {
    let mut events: Vec<(u64, u128, Option<SendEnd>)> = Vec::new();
    for (number, sent) in (1..).zip(others) {
        let (at, end) = match *sent {
            Stored(at, end) => (at, Some(SendEnd::Stored(seconds(end)))),
            Failed(at, end) => (at, Some(SendEnd::Failed(seconds(end)))),
            Awaited(at) => (at, None),
        };
        events.push((at, number, end));
    }
    events.push((suspect.0, SUSPECT, Some(SendEnd::Failed(seconds(suspect.1)))));
    events.sort_by_key(|(at, number, _)| (*at, *number));
    let mut log = SendLog::default();
    for (at, number, end) in events {
        log.start_send(seconds(at), id(number), None);
        if let Some(end) = end {
            log.end_send(id(number), end);
        }
    }
    let failure = LoneFailure { id: id(SUSPECT), sent_at: seconds(suspect.0), failed_at: seconds(suspect.1) };
    (log, failure)
}

#[test]
fn one_after_the_other_a_failure_counts_between_two_successes_of_others() {
    for (others, expected) in [
        (&[Stored(0, 1), Stored(4, 5)][..], Judgement::Counts),
        (&[Stored(0, 1)], Judgement::Pending),
        (&[Stored(4, 5)], Judgement::Void),
        (&[Stored(0, 1), Failed(4, 5), Stored(6, 7)], Judgement::Void),
        (&[Stored(0, 1), Failed(1, 2), Stored(4, 5)], Judgement::Void),
        (&[Failed(0, 1), Stored(1, 2), Stored(4, 5), Failed(6, 7)], Judgement::Counts),
        (&[Stored(0, 1), Awaited(4)], Judgement::Pending),
        (&[Stored(0, 1), Stored(2000, 2001)], Judgement::Void),
    ] {
        let (log, failure) = log_with_suspect(others, (2, 3));
        assert_eq!(log.judge(&failure), expected, "{others:?}");
    }
    let (log, failure) = log_with_suspect(&[Stored(0, 1), Stored(2000, 2001)], (1998, 1999));
    assert_eq!(log.judge(&failure), Judgement::Void, "the success before is too long ago");
}

#[test]
fn beside_others_a_failure_counts_if_those_around_it_were_stored() {
    for (others, expected) in [
        // Another was under way at each moment, and the nearest sends before and after were stored.
        (&[Stored(8, 14), Stored(12, 22)][..], Judgement::Counts),
        (&[Stored(8, 22), Stored(12, 30)], Judgement::Counts),
        (&[Stored(8, 14), Stored(16, 22)], Judgement::Void),
        (&[Stored(8, 14), Awaited(12)], Judgement::Pending),
        (&[Awaited(8), Stored(12, 22)], Judgement::Pending),
        (&[Stored(8, 22)], Judgement::Pending),
        // The nearest sends failed.
        (&[Stored(5, 22), Failed(9, 15), Stored(12, 22)], Judgement::Void),
        (&[Stored(5, 22), Stored(9, 15), Failed(12, 22)], Judgement::Void),
        // Wholly before and after, and nothing between them failed.
        (&[Stored(2, 5), Stored(12, 15), Stored(21, 25)], Judgement::Counts),
        (&[Stored(2, 5), Failed(12, 15), Stored(21, 25)], Judgement::Void),
        (&[Stored(2, 5), Awaited(12), Stored(21, 25)], Judgement::Pending),
        // It may yet be stored, and another failed elsewhere.
        (&[Stored(2, 5), Failed(12, 40), Stored(21, 25)], Judgement::Void),
        (&[Failed(0, 3), Stored(2, 5), Stored(21, 25), Failed(22, 40)], Judgement::Counts),
    ] {
        let (log, failure) = log_with_suspect(others, (10, 20));
        assert_eq!(log.judge(&failure), expected, "{others:?}");
    }
}

#[test]
fn a_part_fails_together_with_the_batch_that_it_was_cut_from() {
    let mut log = SendLog::default();
    for (at, number, parent, end) in [
        (0, 1, None, SendEnd::Stored(seconds(1))),
        (2, 2, None, SendEnd::Failed(seconds(3))),
        (4, 3, Some(id(2)), SendEnd::Failed(seconds(5))),
        (6, SUSPECT, Some(id(3)), SendEnd::Failed(seconds(7))),
        (8, 4, None, SendEnd::Stored(seconds(9))),
    ] {
        log.start_send(seconds(at), id(number), parent);
        log.end_send(id(number), end);
    }
    let failure = LoneFailure { id: id(SUSPECT), sent_at: seconds(6), failed_at: seconds(7) };
    assert_eq!(log.judge(&failure), Judgement::Counts);
    let sibling = LoneFailure { id: id(3), sent_at: seconds(4), failed_at: seconds(5) };
    assert_eq!(log.judge(&sibling), Judgement::Void, "its own part is another batch");
}

#[test]
fn what_is_no_failure_leaves_no_trace() {
    let (mut log, failure) = log_with_suspect(&[Stored(0, 1), Awaited(4), Stored(6, 7)], (2, 3));
    assert_eq!(log.judge(&failure), Judgement::Pending);
    log.forget_send(id(2));
    assert_eq!(log.judge(&failure), Judgement::Counts);
    log.record_failure(seconds(8), id(9));
    assert_eq!(log.judge(&failure), Judgement::Counts, "it failed afterwards");
}

#[test]
fn a_request_beside_it_that_showed_nothing_makes_a_failure_void() {
    for (sent, ended, expected) in
        [(2, 3, Judgement::Void), (0, 2, Judgement::Void), (4, 5, Judgement::Counts)]
    {
        let (mut log, failure) = log_with_suspect(&[Stored(0, 1), Stored(6, 7)], (2, 3));
        assert_eq!(log.judge(&failure), Judgement::Counts);
        log.start_send(seconds(sent), id(50), None);
        log.end_inconclusively(seconds(ended), id(50));
        assert_eq!(log.judge(&failure), expected, "{sent} to {ended}");
    }
}

#[test]
fn a_slow_failure_counts_beside_any_number_of_quick_successes() {
    let millis = Duration::from_millis;
    for slots in [2, 3] {
        let mut log = SendLog::default();
        log.start_send(millis(0), id(1), None);
        log.record_success(millis(100), id(1));
        log.start_send(millis(200), id(SUSPECT), None);
        for number in 0..2_000u64 {
            let (quick, sent_at) = (id(10_000 + u128::from(number)), millis(150 + number * 20));
            log.start_send(sent_at, quick, None);
            log.record_success(sent_at + millis(if slots == 3 { 30 } else { 10 }), quick);
        }
        let failure = LoneFailure { id: id(SUSPECT), sent_at: millis(200), failed_at: millis(39_000) };
        log.record_failure(failure.failed_at, failure.id);
        log.note_undecided(Some(failure.sent_at));
        log.start_send(millis(40_200), id(2), None);
        log.record_success(millis(40_300), id(2));
        assert!(log.sends.len() <= SENDS_MAX);
        assert_eq!(log.judge(&failure), Judgement::Counts, "{slots} slots");
    }
}

#[test]
fn an_unconfirmed_failure_is_judged_by_its_own_time() {
    let (mut log, failure) = log_with_suspect(&[Stored(0, 1)], (2, 3));
    let mut evidence = FaultEvidence::default();
    evidence.record_unconfirmed_failure(failure, &log);
    assert!(evidence.awaits_success());
    log.start_send(seconds(4), id(2), None);
    log.record_success(seconds(5), id(2));
    assert!(!evidence.review(&log), "the server may have it");
    assert_eq!((evidence.counted, evidence.awaits_success()), (0, false));
    let later = LoneFailure { failed_at: seconds(60), ..failure };
    evidence.record_failure(later, &log);
    assert_eq!((evidence.counted, evidence.awaits_success()), (1, false));
}

#[test]
fn the_log_is_bounded_and_what_it_forgot_is_no_evidence() {
    let (mut log, failure) = log_with_suspect(&[Stored(0, 1)], (2, 3));
    for number in 0..2 * SENDS_MAX as u128 {
        log.start_send(seconds(4), id(2_000 + number), None);
        log.record_failure(seconds(5), id(2_000 + number));
    }
    assert_eq!(log.sends.len(), SENDS_MAX);
    assert_eq!(log.judge(&failure), Judgement::Void);
}

/// Batches of one device that never has more than `slots` under way: when each was sent and ended, by the durations
/// of their flights and the pauses before them.
fn schedule(slots: usize, flights: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut free_at = vec![0; slots];
    let mut now = 0;
    let mut batches = Vec::new();
    for (pause, flight) in flights {
        let slot = (0..slots).min_by_key(|slot| free_at[*slot]).unwrap();
        now = free_at[slot].max(now) + pause;
        free_at[slot] = now + flight;
        batches.push((now, now + flight));
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100_000, max_global_rejects: 1_000_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Every batch that is under way during an outage fails. Whatever the interleaving, an outage that meets another
    /// batch than the suspect counts against nobody.
    #[test]
    fn an_outage_that_meets_another_batch_is_no_evidence(
        slots in 1usize..=4,
        flights in prop::collection::vec((0u64..4, 1u64..30), 2..14),
        suspect in 0usize..14,
        moment in 0u64..30,
        (before, after) in (0u64..20, 0u64..20),
    ) {
        let batches = schedule(slots, &flights);
        let suspect = suspect % batches.len();
        let (sent, ended) = batches[suspect];
        let moment = sent + moment % (ended - sent + 1);
        let (begin, end) = (moment.saturating_sub(before), moment + after);
        let is_met = |(sent, ended): (u64, u64)| sent <= end && ended >= begin;
        let others = (0..batches.len()).filter(|index| *index != suspect);
        prop_assume!(others.clone().any(|index| is_met(batches[index])));
        let others: Vec<Sent> = others
            .map(|index| match batches[index] {
                (sent, ended) if is_met((sent, ended)) => Failed(sent, ended),
                (sent, ended) => Stored(sent, ended),
            })
            .collect();
        let (log, failure) = log_with_suspect(&others, batches[suspect]);
        prop_assert_ne!(log.judge(&failure), Judgement::Counts, "{:?} around {:?}", others, batches[suspect]);
    }
}
