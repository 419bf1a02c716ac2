//! The scheduler in a small world under every schedule of answers, and its tables row by row.

mod denials;
mod search;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use self::world::{EVERY_MEMORY, EVERY_MOOD, Memory, Mood, World};
use super::waits::WaitReason;
use super::*;
use crate::config::OutcomeLookup;
use crate::model::{
    Backlog, BatchPhase, Deferral, LastError, LinkState, Network, Phase, QueuePosition, RecordId, SizeRule,
    Stage, WaitCause,
};
use crate::policy::breaker::{BreakerState, Mode};
use crate::policy::isolation;
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::service_time::Load;
use crate::policy::verdict::{Ambiguity, UploadResult, Verdict};
use crate::protocol::wire::{ErrorDetail, RecordResult, RecordStatus};

pub(super) const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

pub(super) fn config() -> Config {
    let mut config = Config::default();
    config.server.url = "https://sync.example".into();
    config
}

pub(super) fn error() -> LastError {
    LastError { class: "test".into(), http_status: None, code: None, message: String::new(), at: 0 }
}

/// A result whose body went out at once.
pub(super) fn upload_result(verdict: &Verdict, took: Duration) -> UploadResult {
    UploadResult {
        verdict: verdict.clone(),
        error: error(),
        took,
        is_replayed: false,
        hints: None,
        network: Network { sent: Some(Duration::ZERO), ..Network::default() },
    }
}

pub(super) fn batch(records: usize, phase: BatchPhase) -> OpenBatch {
    OpenBatch {
        id: BatchId(Uuid::from_u128(1)),
        parent: None,
        stage: Stage::Fresh,
        rule: SizeRule::Standard,
        place: QueuePosition(0),
        records,
        bytes: 100_000,
        attempt: 0,
        lone_failures: 0,
        phase,
    }
}

fn memory() -> impl Strategy<Value = Memory> {
    prop::sample::select(EVERY_MEMORY.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_of_answers_loses_a_record_or_ends_in_sleep_or_haste(
        seed: u64, records in 1usize..150, minutes in 0u32..120, memory in memory(), restarts in 0usize..4,
        moods in prop::sample::subsequence(EVERY_MOOD.to_vec(), 1..=EVERY_MOOD.len()),
    ) {
        let mut world = World::new(records, seed);
        (world.memory, world.restarts) = (memory, restarts);
        world.script = vec![(MINUTE * minutes, moods)];
        world.run();
    }

    #[test]
    fn an_outage_of_any_answers_and_any_length_quarantines_nothing(
        seed: u64, records in 1usize..300, memory in memory(), before in 0u32..30, minutes in 1u32..600,
        restarts in 0usize..3,
        mood in prop::sample::subsequence(
            vec![Mood::TimedOut, Mood::Failed, Mood::Lost, Mood::Unreachable, Mood::Portal, Mood::Throttled,
                Mood::Hurried, Mood::Refused, Mood::TooLarge, Mood::Locked, Mood::Moved], 1..=11),
    ) {
        let mut world = World::new(records, seed);
        (world.memory, world.restarts) = (memory, restarts);
        let begin = SECOND * before;
        world.script = vec![(begin, vec![Mood::Fine]), (begin + MINUTE * minutes, mood)];
        prop_assert_eq!(world.run(), Vec::<usize>::new());
    }

    #[test]
    fn one_record_at_fault_is_found_and_nobody_else(
        seed: u64, memory in memory(), place in 0usize..100,
        mood in prop::sample::select(vec![Mood::TimedOut, Mood::Failed, Mood::Lost, Mood::Refused, Mood::TooLarge,
            Mood::Locked, Mood::Moved, Mood::Portal, Mood::Throttled, Mood::Busy, Mood::Reused]),
    ) {
        let mut world = World::new(200, seed);
        (world.memory, world.arriving) = (memory, 50);
        world.poison.insert(place, mood);
        prop_assert_eq!(world.run(), vec![place]);
        // Where the server says again and again that it is at it, it is asked again and again.
        let most = if mood == Mood::Busy { 3000 } else { 80 };
        prop_assert!(world.requests <= most, "{} requests", world.requests);
    }

    #[test]
    fn several_records_at_fault_do_not_keep_the_others(
        seed: u64, memory in memory(), places in prop::collection::btree_set(0usize..150, 1..12),
        mood in prop::sample::select(vec![Mood::TimedOut, Mood::Failed, Mood::Refused, Mood::TooLarge, Mood::Locked,
            Mood::Moved, Mood::Portal, Mood::Throttled]),
    ) {
        let mut world = World::new(250, seed);
        (world.memory, world.arriving) = (memory, 500);
        world.poison = places.iter().map(|place| (*place, mood)).collect();
        let found = world.run();
        prop_assert_eq!(found, places.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_retry_timer_never_stalls_whatever_the_server_did_last() {
    for (mood, memory) in EVERY_MOOD.into_iter().flat_map(|mood| EVERY_MEMORY.map(|memory| (mood, memory))) {
        for seed in 0..4 {
            let mut world = World::new(60, seed);
            let trouble = 2 * HOUR;
            (world.memory, world.script) = (memory, vec![(trouble, vec![mood])]);
            world.run();
            let longest = world.config.retry.max_backoff.0 + world.config.breaker.open_max.0;
            let late = world.now.saturating_sub(trouble);
            assert!(late <= 3 * longest, "{mood:?}, {memory:?}: {late:?} after the server was well");
        }
    }
}

#[test]
fn a_restart_in_an_outage_changes_nothing_about_its_end() {
    for seed in 0..20 {
        let mut world = World::new(60, seed);
        world.script = vec![(20 * SECOND, vec![Mood::TimedOut, Mood::Lost, Mood::Late])];
        world.run();
        world.restart();
        assert_eq!(world.run(), Vec::<usize>::new());
    }
}

/// A view of `backlog` by an scheduler that knows `open`.
struct Desk {
    scheduler: Scheduler,
    config: Config,
    backlog: Backlog,
    link: LinkState,
    deferral: Option<Deferral>,
    mode: Mode,
    now: Duration,
}

impl Desk {
    fn new(open: Vec<OpenBatch>) -> Self {
        Self {
            scheduler: Scheduler::new(open, Learned::default(), fastrand::Rng::with_seed(1)),
            config: config(),
            backlog: Backlog { pending: 500, claimable: true, ..Backlog::default() },
            link: LinkState::Online,
            deferral: None,
            mode: Mode::Normal,
            now: 100 * SECOND,
        }
    }

    /// With one batch in flight.
    fn sent(open: &OpenBatch) -> Self {
        let mut desk = Self::new(Vec::new());
        desk.scheduler.start_send(desk.now, open, load(open.records));
        desk
    }

    fn look<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
        let breaker = BreakerState { mode: self.mode, ..BreakerState::default() };
        let view = View {
            now: self.now,
            wall_ms: 1_000_000,
            steady_ms: 1_000_000,
            config: &self.config,
            backlog: &self.backlog,
            link: self.link,
            deferral: self.deferral,
            breaker,
        };
        decide(&mut self.scheduler, &view)
    }

    fn next(&mut self) -> Action {
        self.look(|scheduler, view| scheduler.next_action(view))
    }

    fn answered(&mut self, open: &OpenBatch, verdict: &Verdict) -> Disposition {
        let error = LastError { http_status: verdict.is_denial().then_some(403), ..error() };
        let result = UploadResult { error, ..upload_result(verdict, SECOND) };
        self.look(|scheduler, view| scheduler.on_response(view, open.id, &result))
    }
}

fn load(records: usize) -> Load {
    let mut load = Load::default();
    (0..records).for_each(|_| load.add("Visits", 300));
    load
}

fn rests(phase: Phase, until: Option<Duration>) -> Action {
    Action::Rest { phase, until, cause: None }
}

fn waits_for(until: Duration, cause: WaitCause) -> Action {
    Action::Rest { phase: Phase::Waiting, until: Some(until), cause: Some(cause) }
}

#[test]
fn what_comes_next_follows_from_the_view() {
    let open = batch(20, BatchPhase::Waiting);
    let other = OpenBatch {
        id: BatchId(Uuid::from_u128(2)),
        place: QueuePosition(9),
        ..batch(5, BatchPhase::Waiting)
    };
    let unclear = batch(20, BatchPhase::Unclear);
    let desk = |change: &dyn Fn(&mut Desk)| {
        let mut desk = Desk::new(vec![open.clone(), other.clone()]);
        change(&mut desk);
        desk.next()
    };
    let sends = |action: &Action, id| matches!(action, Action::Send(sent, _) if *sent == id);
    assert_eq!(desk(&|desk| desk.backlog.paused = true), rests(Phase::Paused, None));
    assert_eq!(desk(&|desk| desk.backlog = Backlog::default()), rests(Phase::Idle, None));
    assert_eq!(desk(&|desk| desk.config.server.url.clear()), rests(Phase::Misconfigured, None));
    assert_eq!(desk(&|desk| desk.link = LinkState::Offline), rests(Phase::Offline, None));
    assert_eq!(desk(&|desk| desk.link = LinkState::CaptivePortal), rests(Phase::Offline, None));
    let (soon, later) = (99 * SECOND, 101 * SECOND);
    let stopped = |until| {
        move |desk: &mut Desk| {
            desk.scheduler.waits.wait_until(until, WaitReason::AuthRequired);
            desk.scheduler.waits.confirm();
        }
    };
    assert_eq!(desk(&stopped(later)), rests(Phase::AuthRequired, Some(later)));
    assert!(sends(&desk(&stopped(soon)), open.id));
    let backs_off = |desk: &mut Desk| desk.scheduler.waits.wait_until(later, WaitReason::BackOff);
    assert_eq!(desk(&backs_off), waits_for(later, WaitCause::BackOff));
    let asked = |desk: &mut Desk| desk.scheduler.waits.wait_until(later, WaitReason::ServerAsked);
    assert_eq!(desk(&asked), waits_for(later, WaitCause::ServerAsked));
    let open_for_longer = |desk: &mut Desk| {
        asked(desk);
        desk.mode = Mode::Open { until: later + SECOND };
    };
    let last = waits_for(later + SECOND, WaitCause::Breaker);
    assert_eq!(desk(&open_for_longer), last, "the cause that ends last is named");
    assert_eq!(desk(&|desk| desk.mode = Mode::Open { until: later }), waits_for(later, WaitCause::Breaker));
    let deferred = |desk: &mut Desk| desk.deferral = Some(Deferral::Metered);
    assert_eq!(desk(&deferred), rests(Phase::Deferred, None));
    let wanted = |desk: &mut Desk| {
        deferred(desk);
        desk.look(Scheduler::override_deferral);
    };
    assert!(sends(&desk(&wanted), open.id), "a person does not care for the bill");
    let next_run = |desk: &mut Desk| {
        wanted(desk);
        desk.scheduler.start_run();
    };
    assert_eq!(desk(&next_run), rests(Phase::Deferred, None), "but only once");
    let settled = |desk: &mut Desk| {
        wanted(desk);
        desk.backlog.settled_total += 500;
    };
    assert_eq!(desk(&settled), rests(Phase::Deferred, None), "what came later waits");
    let beforehand = |desk: &mut Desk| {
        desk.look(Scheduler::override_deferral);
        deferred(desk);
    };
    assert_eq!(desk(&beforehand), rests(Phase::Deferred, None), "not for another time");
    assert!(sends(&desk(&|_| {}), open.id), "parts go in queue order");
    assert!(sends(&desk(&|desk| desk.mode = Mode::Probing), other.id), "the smallest is the probe");
    assert!(matches!(desk(&|desk| desk.scheduler.search.want_canary()), Action::Claim(_)));
    let nothing_fresh = |desk: &mut Desk| {
        desk.scheduler.search.want_canary();
        desk.backlog.claimable = false;
    };
    assert!(sends(&desk(&nothing_fresh), open.id), "another part is as good a control");

    let mut desk = Desk::new(vec![unclear.clone(), other.clone()]);
    assert_eq!(desk.next(), Action::QueryOutcome(unclear.id));
    desk.config.server.outcome_lookup = OutcomeLookup::Off;
    assert!(sends(&desk.next(), unclear.id), "never looked up, but sent again under its id");
    desk.config.retry.quarantine_after = 3;
    let guilty = OpenBatch { lone_failures: 5, ..batch(1, BatchPhase::Waiting) };
    assert_eq!(
        Desk { scheduler: Desk::new(vec![guilty.clone()]).scheduler, ..desk }.next(),
        Action::Quarantine(guilty.id)
    );
}

#[test]
fn a_batch_that_keeps_failing_as_the_probe_makes_room_for_another() {
    let worn = OpenBatch { attempt: 3, ..batch(1, BatchPhase::Waiting) };
    let mut desk = Desk::new(vec![worn.clone()]);
    desk.mode = Mode::Probing;
    assert!(matches!(desk.next(), Action::Claim(_)));
    desk.backlog.claimable = false;
    assert!(matches!(desk.next(), Action::Send(id, _) if id == worn.id));
}

#[test]
fn what_was_learned_of_one_server_is_not_believed_of_another() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let mut desk = Desk::sent(&open);
    desk.scheduler.switch_server(&desk.config);
    desk.answered(&open, &Verdict::Completed(Vec::new()));
    let known =
        |desk: &mut Desk| desk.look(|scheduler, view| scheduler.learned_state(view)).service.is_known();
    desk.scheduler.switch_server(&desk.config);
    assert!(known(&mut desk));
    desk.config.server.url = "https://another.example".into();
    desk.scheduler.switch_server(&desk.config);
    assert!(!known(&mut desk));
}

#[test]
fn an_answer_that_was_given_before_tells_nothing_of_how_long_the_server_takes() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let mut desk = Desk::sent(&open);
    for _ in 0..2 {
        desk.scheduler.learned.time_limit.timed_out(30 * SECOND, Duration::ZERO, 60 * SECOND);
    }
    let before = desk.scheduler.learned.clone();
    assert_eq!(before.time_limit(60 * SECOND), 30 * SECOND);
    let result = upload_result(&Verdict::Completed(Vec::new()), 40 * SECOND);
    let result = UploadResult { is_replayed: true, network: Network::default(), ..result };
    desk.look(|scheduler, view| scheduler.on_response(view, open.id, &result));
    let after = &desk.scheduler.learned;
    assert_eq!((&after.service, after.time_limit), (&before.service, before.time_limit));
}

#[test]
fn a_full_scheduler_sleeps_until_a_batch_is_due_although_records_are() {
    let mut desk = Desk::new(Vec::new());
    for number in 0..1000 {
        let id = BatchId(Uuid::from_u128(number));
        desk.scheduler.start_send(desk.now, &OpenBatch { id, ..batch(1, BatchPhase::InFlight) }, load(1));
        desk.scheduler.open.set_step(id, NextStep::Send { due: 200 * SECOND });
    }
    desk.backlog.next_due_at = Some(1);
    assert_eq!(desk.next(), waits_for(200 * SECOND, WaitCause::BackOff));
}

#[test]
fn every_verdict_has_its_disposition() {
    let keep = |phase, error| Disposition::Keep { phase, lone_failures: 0, error };
    let waits = || keep(BatchPhase::Waiting, None);
    let detail = || ErrorDetail { code: "INVALID".into(), message: "no".into(), position: None };
    let cut = |error| Disposition::Cut { cut: isolation::halves(20), error };
    let zero = Some(Duration::ZERO);
    let (idle, going) = (Some(false), Some(true));
    // Whether something goes out at once; none for "its outcome is asked for".
    for (verdict, disposition, goes_on) in [
        (Verdict::Ambiguous(Ambiguity::TimedOut), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::Ambiguous(Ambiguity::ServerError), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::Ambiguous(Ambiguity::ConnectionLost), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::Ambiguous(Ambiguity::LinkTooSlow), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::StillProcessing { retry_after: zero }, keep(BatchPhase::Unclear, None), None),
        (Verdict::Refused(detail()), cut(Some(error())), going),
        (Verdict::TooLarge, cut(None), going),
        (Verdict::BatchIdReused, Disposition::Rename { lone_failures: 0 }, idle),
        (Verdict::EncodingRefused, waits(), going),
        (Verdict::Unreachable, waits(), idle),
        (Verdict::Intercepted, waits(), idle),
        (Verdict::Throttled { retry_after: Some(MINUTE), is_protocol: true }, waits(), idle),
        (Verdict::Throttled { retry_after: Some(MINUTE), is_protocol: false }, waits(), idle),
        (Verdict::Throttled { retry_after: zero, is_protocol: true }, waits(), idle),
        (Verdict::Throttled { retry_after: None, is_protocol: false }, waits(), idle),
        // A look-up shows whether everyone is sent away.
        (Verdict::Unauthorized, waits(), None),
        (Verdict::EndpointNotFound, waits(), None),
    ] {
        let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
        let mut desk = Desk::sent(&open);
        assert_eq!(desk.answered(&open, &verdict), disposition, "{verdict:?}");
        match (goes_on, desk.next()) {
            (Some(false), Action::Rest { until: Some(until), .. }) => assert!(until > desk.now),
            (Some(true), Action::Send(..) | Action::Claim(_))
            | (None, Action::Claim(_) | Action::QueryOutcome(_)) => {}
            (_, action) => panic!("{verdict:?} then {action:?}"),
        }
    }
}

#[test]
fn an_answer_settles_each_record_by_its_own_result() {
    use RecordStatus::{Applied, Duplicate, Rejected, Retry};
    let open = batch(4, BatchPhase::InFlight);
    let id = |number| RecordId(Uuid::from_u128(number));
    let result = |number, status| RecordResult { id: id(number), status, code: None, message: None };
    let results = [(1, Applied), (2, Duplicate), (3, Rejected), (4, Retry)].map(|(n, s)| result(n, s));
    let Disposition::Close { outcomes, missing } =
        Desk::sent(&open).answered(&open, &Verdict::Completed(results.into()))
    else {
        panic!("closed");
    };
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Synced => 's',
            Outcome::Quarantine(error) if error.class == "rejected" => 'q',
            Outcome::Retry(error) if error.class == "retry" => 'r',
            _ => '?',
        })
        .collect();
    assert_eq!(kinds, ['s', 's', 'q', 'r']);
    assert!(matches!(missing, Outcome::Retry(error) if error.class == "no_result"));
}

#[test]
fn a_link_that_is_too_slow_is_held_against_the_size_of_a_batch_and_never_against_a_record() {
    for (doubt, records, attempt, suspected) in [
        (Ambiguity::LinkTooSlow, 20, 1, true),
        (Ambiguity::LinkTooSlow, 1, 1, false),
        (Ambiguity::LinkTooSlow, 1, 9, false),
        (Ambiguity::ConnectionLost, 20, 1, false),
        (Ambiguity::ConnectionLost, 1, 2, true),
        (Ambiguity::TimedOut, 1, 1, true),
    ] {
        let batch = OpenBatch { attempt, ..batch(records, BatchPhase::InFlight) };
        assert_eq!(
            fault_search::implicates_batch(&batch, doubt),
            suspected,
            "{doubt:?}, {records}, {attempt}"
        );
    }
}

#[test]
fn every_look_up_has_its_disposition() {
    let keep = |error| Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error };
    let cut = || Disposition::Cut { cut: isolation::halves(20), error: None };
    for (doubt, found, attempt, expected) in [
        (Ambiguity::TimedOut, OutcomeReply::UnknownBatch, 1, Some(cut())),
        (Ambiguity::ConnectionLost, OutcomeReply::UnknownBatch, 1, Some(keep(None))),
        (Ambiguity::ConnectionLost, OutcomeReply::UnknownBatch, 2, Some(cut())),
        (Ambiguity::LinkTooSlow, OutcomeReply::UnknownBatch, 1, Some(cut())),
        (Ambiguity::ServerError, OutcomeReply::Unsupported, 1, Some(cut())),
        (Ambiguity::TimedOut, OutcomeReply::Unsupported, 1, Some(cut())),
        (Ambiguity::TimedOut, OutcomeReply::Failed, 1, Some(keep(None))),
        (Ambiguity::TimedOut, OutcomeReply::Unreachable, 1, None),
        (Ambiguity::TimedOut, OutcomeReply::Failed, 3, Some(cut())),
        (Ambiguity::TimedOut, OutcomeReply::Processing { retry_after: None }, 1, None),
    ] {
        let open = OpenBatch { attempt, ..batch(20, BatchPhase::InFlight) };
        let mut desk = Desk::sent(&open);
        desk.answered(&open, &Verdict::Ambiguous(doubt));
        let disposition = desk.look(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &found));
        assert_eq!(disposition, expected, "{doubt:?} {found:?}");
    }
    let open = batch(20, BatchPhase::InFlight);
    let mut desk = Desk::sent(&open);
    desk.answered(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    desk.now += Duration::from_hours(1);
    let processing = OutcomeReply::Processing { retry_after: Some(MINUTE) };
    let disposition = desk.look(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &processing));
    assert_eq!(disposition, Some(cut()), "it is given up on in the end");
}
