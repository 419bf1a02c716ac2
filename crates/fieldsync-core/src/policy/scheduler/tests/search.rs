//! The search for a record at fault on a server that is known.

use super::*;

/// A desk whose server has answered enough batches of 20 records in 10 s, and look-ups.
fn experienced() -> Desk {
    let mut desk = Desk::new(Vec::new());
    for number in 0..10 {
        let open =
            OpenBatch { id: BatchId(Uuid::from_u128(number)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
        desk.scheduler.start_send(desk.now, &open, load(20));
        let result = upload_result(&Verdict::Completed(Vec::new()), 10 * SECOND);
        desk.look(|scheduler, view| scheduler.on_response(view, open.id, &result));
    }
    desk.look(|scheduler, view| {
        scheduler.on_outcome_reply(view, BatchId(Uuid::from_u128(0)), &OutcomeReply::UnknownBatch)
    });
    desk
}

/// A fresh batch fails, and the server does not have it: its parts.
fn cut_up(desk: &mut Desk) -> Vec<OpenBatch> {
    let open = OpenBatch { id: BatchId(Uuid::from_u128(100)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
    desk.scheduler.start_send(desk.now, &open, load(20));
    desk.answered(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    let Some(Disposition::Cut { cut, .. }) =
        desk.look(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &OutcomeReply::UnknownBatch))
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
    desk.scheduler.track_batches(desk.now, parts.clone());
    parts
}

#[test]
fn a_suspect_is_hung_up_on_only_where_its_outcome_can_be_asked_for() {
    let mut desk = experienced();
    let whole = OpenBatch { id: BatchId(Uuid::from_u128(50)), ..batch(20, BatchPhase::InFlight) };
    desk.scheduler.start_send(desk.now, &whole, load(20));
    assert_eq!(desk.scheduler.response_deadline(&desk.config, whole.id), None, "nobody is searched");
    desk.scheduler.forget_batch(whole.id);
    let part = cut_up(&mut desk).remove(0);
    desk.scheduler.start_send(desk.now, &part, load(part.records));
    let patience = desk.scheduler.response_deadline(&desk.config, part.id).unwrap();
    assert!(patience >= 10 * SECOND && patience < 40 * SECOND, "{patience:?}");
    desk.config.server.outcome_lookup = OutcomeLookup::Off;
    assert_eq!(desk.scheduler.response_deadline(&desk.config, part.id), None);
}

#[test]
fn a_whole_batch_goes_again_where_most_failures_had_no_reason() {
    let mut desk = experienced();
    for _ in 0..3 {
        desk.scheduler.learned.glitches.innocent();
    }
    let open = OpenBatch { id: BatchId(Uuid::from_u128(100)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
    desk.scheduler.start_send(desk.now, &open, load(20));
    desk.answered(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    let unknown = |desk: &mut Desk| {
        desk.look(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &OutcomeReply::UnknownBatch))
    };
    assert!(matches!(unknown(&mut desk), Some(Disposition::Keep { phase: BatchPhase::Waiting, .. })));
    let again = OpenBatch { attempt: 2, ..open.clone() };
    desk.scheduler.start_send(desk.now, &again, load(20));
    desk.answered(&again, &Verdict::Ambiguous(Ambiguity::TimedOut));
    assert!(matches!(unknown(&mut desk), Some(Disposition::Cut { .. })), "once is enough");
}
