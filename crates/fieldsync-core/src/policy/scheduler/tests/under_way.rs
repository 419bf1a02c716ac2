//! What the scheduler decides while requests are under way beside each other.

use super::*;

#[test]
fn a_rest_beside_a_query_ends_with_its_reply_and_not_at_once() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let mut planner = TestPlanner::sent(&open);
    (planner.backlog.claimable, planner.backlog.pending) = (false, 20);
    planner.respond_to(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    assert_eq!(planner.next(), Action::QueryOutcome(open.id));
    planner.scheduler.start_query(open.id);
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
            planner.scheduler.start_send(planner.now, open, load(20));
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
