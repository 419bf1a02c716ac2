//! The search for a record at fault on a server that is known.

use super::*;

/// A planner whose server has answered enough batches of 20 records in 10 s, and look-ups.
fn experienced() -> TestPlanner {
    let mut planner = TestPlanner::new(Vec::new());
    for number in 0..10 {
        let open =
            OpenBatch { id: BatchId(Uuid::from_u128(number)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
        planner.start_send(&open, load(20));
        let result = upload_result(&Verdict::Completed(Vec::new()), 10 * SECOND);
        planner.with_view(|scheduler, view| scheduler.on_response(view, open.id, &result));
    }
    planner.with_view(|scheduler, view| {
        scheduler.on_outcome_reply(view, BatchId(Uuid::from_u128(0)), &OutcomeReply::UnknownBatch)
    });
    planner
}

/// A fresh batch fails, and the server does not have it: its parts.
fn cut_up(planner: &mut TestPlanner) -> Vec<OpenBatch> {
    let open = OpenBatch { id: BatchId(Uuid::from_u128(100)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
    planner.start_send(&open, load(20));
    planner.respond_to(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    let Some(Disposition::Cut { cut, .. }) = planner
        .with_view(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &OutcomeReply::UnknownBatch))
    else {
        panic!("it is cut");
    };
    let parts: Vec<OpenBatch> = (101..)
        .zip(cut.parts)
        .map(|(number, records)| OpenBatch {
            id: BatchId(Uuid::from_u128(number)),
            parent: Some(open.id),
            stage: cut.stage,
            ..batch(records, BatchPhase::Waiting)
        })
        .collect();
    planner.scheduler.track_batches(planner.now, parts.clone());
    parts
}

#[test]
fn a_suspected_batch_gets_a_shorter_deadline_only_with_outcome_queries() {
    let mut planner = experienced();
    let whole = OpenBatch { id: BatchId(Uuid::from_u128(50)), ..batch(20, BatchPhase::InFlight) };
    planner.start_send(&whole, load(20));
    assert_eq!(
        planner.scheduler.response_deadline(&planner.config, whole.id),
        None,
        "no record is searched for"
    );
    planner.scheduler.forget_batch(whole.id);
    let part = cut_up(&mut planner).remove(0);
    planner.start_send(&part, load(part.records));
    let deadline = planner.scheduler.response_deadline(&planner.config, part.id).unwrap();
    assert!(deadline >= 10 * SECOND && deadline < 40 * SECOND, "{deadline:?}");
    planner.config.server.outcome_lookup = OutcomeLookup::Off;
    assert_eq!(planner.scheduler.response_deadline(&planner.config, part.id), None);
}

#[test]
fn a_whole_batch_goes_again_where_most_failures_had_no_reason() {
    let mut planner = experienced();
    for _ in 0..3 {
        planner.scheduler.learned.glitches.record_faultless_failure();
    }
    let open = OpenBatch { id: BatchId(Uuid::from_u128(100)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
    planner.start_send(&open, load(20));
    planner.respond_to(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    let unknown = |planner: &mut TestPlanner| {
        planner.with_view(|scheduler, view| {
            scheduler.on_outcome_reply(view, open.id, &OutcomeReply::UnknownBatch)
        })
    };
    assert!(matches!(unknown(&mut planner), Some(Disposition::Keep { phase: BatchPhase::Waiting, .. })));
    let again = OpenBatch { attempt: 2, ..open.clone() };
    planner.start_send(&again, load(20));
    planner.respond_to(&again, &Verdict::Ambiguous(Ambiguity::TimedOut));
    assert!(matches!(unknown(&mut planner), Some(Disposition::Cut { .. })), "once is enough");
}
