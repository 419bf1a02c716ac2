//! Sets that are denied: alone, or together with all others.

use proptest::prelude::*;

use super::*;
use crate::policy::scheduler::denials::OtherTraffic;

const FORBIDDEN: Verdict = Verdict::Unauthorized;

fn numbered(number: u128, records: usize) -> OpenBatch {
    OpenBatch {
        id: BatchId(Uuid::from_u128(number)),
        attempt: 1,
        place: QueuePosition(u64::try_from(number).unwrap()),
        ..batch(records, BatchPhase::InFlight)
    }
}

impl TestPlanner {
    fn send(&mut self, open: &OpenBatch) {
        self.start_send(open, load(open.records));
    }

    fn deny(&mut self, open: &OpenBatch) -> Disposition {
        self.send(open);
        self.respond_to(open, &FORBIDDEN)
    }

    /// A batch of others gets through.
    fn store_others(&mut self, number: u128) {
        let other = numbered(number, 5);
        self.send(&other);
        let id = RecordId(Uuid::from_u128(number));
        let result = RecordResult::new(id, RecordStatus::Applied);
        self.respond_to(&other, &Verdict::Completed(vec![result]));
    }

    fn look_up(&mut self, found: &OutcomeReply) {
        self.with_view(|scheduler, view| {
            scheduler.on_outcome_reply(view, BatchId(Uuid::from_u128(999)), found)
        });
    }
}

#[test]
fn the_third_denial_is_held_against_a_set_where_others_were_stored_in_between() {
    let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
    let waits = Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error: None };
    assert_eq!(planner.deny(&set), waits);
    assert_eq!(planner.deny(&set), waits);
    planner.store_others(2);
    assert!(planner.scheduler.is_denied_alone(set.id));
    let named = planner.scheduler.denied_sets();
    assert_eq!((named[0].batch_id, named[0].denials, named[0].error.http_status), (set.id, 2, Some(403)));
    let cut = planner.deny(&set);
    assert!(matches!(cut, Disposition::Cut { error: Some(_), .. }), "the attempt counts: {cut:?}");
}

#[test]
fn while_others_are_denied_as_well_nothing_is_counted_however_often() {
    let (set, other, mut planner) = (numbered(1, 20), numbered(2, 5), TestPlanner::new(Vec::new()));
    for _ in 0..20 {
        for open in [&set, &other] {
            let kept = planner.deny(open);
            assert_eq!(kept, Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error: None });
        }
        planner.look_up(&OutcomeReply::UnknownBatch);
    }
    assert!(!planner.scheduler.is_denied_alone(set.id) && planner.scheduler.denied_sets().is_empty());
}

#[test]
fn where_nothing_else_is_there_a_look_up_is_enough_to_cut_and_never_to_count() {
    let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
    for _ in 0..2 {
        planner.deny(&set);
        planner.look_up(&OutcomeReply::UnknownBatch);
    }
    let cut = planner.deny(&set);
    assert!(matches!(cut, Disposition::Cut { error: None, .. }), "{cut:?}");
    let single = numbered(2, 1);
    for _ in 0..10 {
        let kept = planner.deny(&single);
        assert_eq!(kept, Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error: None });
        planner.look_up(&OutcomeReply::UnknownBatch);
    }
}

#[test]
fn what_is_sent_after_a_denial_shows_whether_it_is_about_everyone() {
    let set = numbered(1, 20);
    let denied = || {
        let mut planner = TestPlanner::new(Vec::new());
        planner.deny(&set);
        planner
    };
    let stops = |action: &Action| matches!(action, Action::Rest { phase: Phase::AuthRequired, .. });
    let mut planner = denied();
    assert_eq!(planner.next(), Action::QueryOutcome(set.id), "it is cheap");
    planner.look_up(&OutcomeReply::UnknownBatch);
    assert!(matches!(planner.next(), Action::Claim(_)), "others go first");

    let mut planner = denied();
    planner.look_up(&OutcomeReply::Unreachable);
    assert!(matches!(planner.next(), Action::Claim(_)), "it may be look-ups that are denied");
    planner.deny(&numbered(2, 10));
    planner.deny(&numbered(3, 10));
    assert!(stops(&planner.next()), "three sets and a look-up: it is everyone");

    let mut planner = denied();
    planner.look_up(&OutcomeReply::Unreachable);
    planner.deny(&numbered(2, 10));
    planner.scheduler.canary_confirmed();
    assert!(matches!(planner.next(), Action::SendCanary(_)), "a stored record gives certainty");
    let canary = BatchId(Uuid::from_u128(3));
    planner.with_view(|scheduler, view| scheduler.on_canary_response(view, canary, &FORBIDDEN));
    assert!(stops(&planner.next()));

    let mut planner = denied();
    planner.look_up(&OutcomeReply::Unreachable);
    planner.backlog.claimable = false;
    assert!(stops(&planner.next()), "nothing else is there to be sent");
}

#[test]
fn a_set_that_is_denied_again_and_again_is_not_sent_whole_while_nothing_gets_through() {
    let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
    (planner.backlog.claimable, planner.config.server.outcome_lookup) = (false, OutcomeLookup::Off);
    let longest = planner.config.retry.max_backoff.0;
    let sends = |action: &Action| matches!(action, Action::Send(id, _) if *id == set.id);
    planner.deny(&set);
    planner.now += longest / 2;
    assert!(sends(&planner.next()), "a second time");
    planner.deny(&set);
    planner.now += longest / 2;
    assert_eq!(
        planner.next(),
        Action::Divide(set.id),
        "and then one record of it, within the longest back-off"
    );
    let Disposition::Cut { cut, error: None } =
        planner.with_view(|scheduler, view| scheduler.divide_batch(view, set.id))
    else {
        panic!("cut, and nothing counts");
    };
    assert_eq!(cut.parts, [1, 19]);
    let part = |number, records| OpenBatch {
        parent: Some(set.id),
        stage: Stage::Half,
        attempt: 0,
        phase: BatchPhase::Waiting,
        ..numbered(number, records)
    };
    let (rest, single) = (part(2, 19), part(3, 1));
    planner.scheduler.track_batches(planner.now, vec![rest.clone(), single.clone()]);
    assert!(matches!(planner.next(), Action::Send(id, _) if id == single.id));
    planner.deny(&OpenBatch { attempt: 1, ..single.clone() });
    assert!(matches!(planner.next(), Action::Rest { .. }));
    planner.store_others(4);
    planner.now += 10 * SECOND;
    assert!(matches!(planner.next(), Action::Send(id, _) if id == rest.id), "others got through");
}

#[test]
fn a_new_credential_forgets_denials_and_the_same_set_goes_again() {
    let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
    planner.backlog.claimable = false;
    for _ in 0..5 {
        planner.deny(&set);
        planner.look_up(&OutcomeReply::Unreachable);
    }
    planner.scheduler.credentials_renewed(planner.now);
    assert!(matches!(planner.next(), Action::Send(id, _) if id == set.id));
}

#[test]
fn a_strangers_wish_is_kept_no_longer_than_a_back_off_and_ends_with_the_way() {
    let day = Some(24 * HOUR);
    for (is_protocol, longest) in [(true, HOUR), (false, 15 * MINUTE)] {
        let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
        planner.backlog.claimable = false;
        planner.send(&set);
        planner.respond_to(&set, &Verdict::Throttled { retry_after: day, is_protocol });
        let Action::Rest { until: Some(until), .. } = planner.next() else { panic!("it waits") };
        let wait = until.checked_sub(planner.now).unwrap();
        assert!(wait >= longest && wait <= longest + MINUTE, "{wait:?}");
        planner.scheduler.link_restored(planner.now);
        assert_eq!(matches!(planner.next(), Action::Rest { .. }), is_protocol, "the server's own is kept");
    }
}

#[test]
fn hints_hold_until_an_answer_without_them() {
    let mut planner = TestPlanner::new(Vec::new());
    let limit =
        |planner: &mut TestPlanner| planner.with_view(|scheduler, view| scheduler.batch_limit(view)).records;
    let before = limit(&mut planner);
    let respond = |hints, planner: &mut TestPlanner| {
        let result = UploadResult { hints: Some(hints), ..upload_result(&Verdict::Unreachable, SECOND) };
        planner.with_view(|scheduler, view| scheduler.on_response(view, BatchId::new(), &result));
    };
    respond(ServerHints { max_records: Some(1), ..ServerHints::default() }, &mut planner);
    assert_eq!(limit(&mut planner), 1);
    respond(ServerHints::default(), &mut planner);
    assert_eq!(limit(&mut planner), before);
}

#[test]
fn a_batch_that_is_processed_without_end_goes_on_under_a_new_id() {
    for look_up in [OutcomeLookup::Auto, OutcomeLookup::Off] {
        let (open, mut planner) = (numbered(1, 1), TestPlanner::new(Vec::new()));
        planner.config.server.outcome_lookup = look_up;
        let busy = Verdict::StillProcessing { retry_after: None };
        planner.send(&open);
        assert!(matches!(
            planner.respond_to(&open, &busy),
            Disposition::Keep { phase: BatchPhase::Unclear, .. }
        ));
        planner.now += MINUTE;
        planner.send(&open);
        assert!(matches!(
            planner.respond_to(&open, &busy),
            Disposition::Keep { phase: BatchPhase::Unclear, .. }
        ));
        planner.now += MINUTE;
        planner.send(&open);
        assert!(matches!(planner.respond_to(&open, &busy), Disposition::Rename { .. }), "{look_up:?}");
    }
}

#[test]
fn another_server_is_asked_as_if_nothing_were_known() {
    let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
    planner.scheduler.switch_server(&planner.config);
    planner.store_others(2);
    planner.scheduler.canary_confirmed();
    planner.deny(&set);
    planner.config.server.url = "https://another.example".into();
    assert!(planner.scheduler.switch_server(&planner.config));
    assert!(!planner.scheduler.server.is_canary_ready() && !planner.scheduler.server.is_in_question());
    assert!(!planner.scheduler.switch_server(&planner.config), "once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// What others did is known only as far as it was seen.
    #[test]
    fn the_most_that_was_seen_of_others_is_what_counts(seen in prop::collection::vec(0u8..4, 0..10)) {
        let kinds = [OtherTraffic::Silent, OtherTraffic::Sent, OtherTraffic::Answered, OtherTraffic::Stored];
        let (set, mut planner) = (numbered(1, 20), TestPlanner::new(Vec::new()));
        planner.deny(&set);
        for kind in &seen {
            planner.scheduler.open.note_traffic(None, kinds[usize::from(*kind)]);
        }
        let most = seen.iter().max().map_or(OtherTraffic::Silent, |kind| kinds[usize::from(*kind)]);
        prop_assert_eq!(planner.scheduler.open.get(set.id).unwrap().denials.other_traffic(), most);
    }
}
