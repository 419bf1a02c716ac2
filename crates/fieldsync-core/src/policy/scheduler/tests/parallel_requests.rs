//! What the scheduler decides while requests are under way beside each other.

use super::*;

#[test]
fn a_rest_beside_a_query_ends_with_its_reply_and_not_at_once() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let mut planner = TestPlanner::sent(&open);
    (planner.backlog.claimable, planner.backlog.pending) = (false, 20);
    planner.respond_to(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    assert_eq!(planner.next(), Action::QueryOutcome(open.id));
    planner.scheduler.start_query(planner.now);
    assert_eq!(planner.next(), rests(Phase::Waiting, None));
}

#[test]
fn responses_of_one_round_do_not_shorten_the_wait_that_the_server_asked_for() {
    let id = |number| BatchId(Uuid::from_u128(number));
    for later in [
        Verdict::Unreachable,
        Verdict::Throttled { retry_after: None, is_protocol: false },
        Verdict::Throttled { retry_after: Some(SECOND), is_protocol: true },
        Verdict::Completed(vec![RecordResult::new(RecordId(Uuid::from_u128(1)), RecordStatus::Applied)]),
    ] {
        let mut planner = TestPlanner::new(Vec::new());
        let sent =
            [1, 2].map(|number| OpenBatch { id: id(number), attempt: 1, ..batch(20, BatchPhase::InFlight) });
        for open in &sent {
            planner.start_send(open, load(20));
        }
        planner.now += SECOND;
        let asked = Verdict::Throttled { retry_after: Some(5 * MINUTE), is_protocol: true };
        planner.respond_to(&sent[0], &asked);
        planner.now += SECOND;
        planner.respond_to(&sent[1], &later);
        planner.now += 4 * MINUTE;
        assert!(
            matches!(planner.next(), Action::Rest { cause: Some(WaitCause::ServerAsked), .. }),
            "{later:?}: {:?}",
            planner.next()
        );
    }
}

#[test]
fn the_reply_to_an_earlier_query_does_not_end_the_wait_that_the_server_asked_for() {
    let (unclear, other) = (batch(20, BatchPhase::Unclear), BatchId(Uuid::from_u128(2)));
    let results = vec![RecordResult::new(RecordId(Uuid::from_u128(1)), RecordStatus::Applied)];
    for reply in [OutcomeReply::Completed(results), OutcomeReply::UnknownBatch, OutcomeReply::Failed] {
        let mut planner = TestPlanner::new(vec![unclear.clone()]);
        assert_eq!(planner.next(), Action::QueryOutcome(unclear.id));
        planner.scheduler.start_query(planner.now);
        let sent = OpenBatch { id: other, attempt: 1, ..batch(20, BatchPhase::InFlight) };
        planner.start_send(&sent, load(20));
        planner.now += SECOND;
        planner.respond_to(&sent, &Verdict::Throttled { retry_after: Some(5 * MINUTE), is_protocol: true });
        planner.now += SECOND;
        planner.with_view(|scheduler, view| scheduler.on_outcome_reply(view, unclear.id, &reply));
        planner.now += 4 * MINUTE;
        let next = planner.next();
        assert!(
            matches!(next, Action::Rest { cause: Some(WaitCause::ServerAsked), .. }),
            "{reply:?}: {next:?}"
        );
    }
}

/// A planner that may have four batches under way, with one of 20 records under way.
fn with_one_under_way() -> TestPlanner {
    let in_flight = serde_json::from_value(serde_json::json!({ "size": 4 })).unwrap();
    let learned = Learned { in_flight, ..Learned::default() };
    let mut planner = TestPlanner::new(Vec::new());
    planner.scheduler = Scheduler::new(Vec::new(), learned, fastrand::Rng::with_seed(1));
    planner.start_send(&OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) }, load(20));
    planner
}

#[test]
fn records_that_arrive_one_by_one_are_not_sent_one_by_one_beside_a_batch() {
    let mut planner = with_one_under_way();
    assert!(matches!(planner.next(), Action::Claim(_)), "500 records wait");
    planner.backlog.pending = 3;
    assert!(matches!(planner.next(), Action::Rest { phase: Phase::Syncing, .. }), "others may follow");
    planner.start_send(
        &OpenBatch { id: BatchId(Uuid::from_u128(2)), attempt: 1, ..batch(20, BatchPhase::InFlight) },
        load(20),
    );
    assert!(matches!(planner.next(), Action::Claim(_)), "nothing arrived since the last send");
}

#[test]
fn a_wait_or_a_429_changes_the_restraints() {
    let mut planner = with_one_under_way();
    let open = OpenBatch { id: BatchId(Uuid::from_u128(2)), attempt: 1, ..batch(20, BatchPhase::InFlight) };
    planner.now += SECOND;
    planner.start_send(&open, load(20));
    let before = planner.scheduler.restraints();
    planner.respond_to(&open, &Verdict::Throttled { retry_after: Some(MINUTE), is_protocol: true });
    assert_ne!(planner.scheduler.restraints(), before);
}

#[test]
fn what_the_former_server_responds_settles_the_batch_and_teaches_nothing() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let applied =
        Verdict::Completed(vec![RecordResult::new(RecordId(Uuid::from_u128(1)), RecordStatus::Applied)]);
    let asked = Verdict::Throttled { retry_after: Some(MINUTE), is_protocol: true };
    for (verdict, is_closed) in
        [(applied, true), (Verdict::Ambiguous(Ambiguity::TimedOut), false), (asked, false)]
    {
        let mut planner = TestPlanner::sent(&open);
        planner.scheduler.switch_server(&planner.config);
        planner.config.server.url = "https://another.example".into();
        planner.scheduler.switch_server(&planner.config);
        let before = planner.scheduler.learned.clone();
        let disposition = planner.respond_to(&open, &verdict);
        assert_eq!(matches!(disposition, Disposition::Close { .. }), is_closed, "{verdict:?}");
        assert_eq!(planner.scheduler.learned, before);
        assert!(!matches!(planner.next(), Action::Rest { .. }), "the new server did not ask for a wait");
    }
}
