//! The scheduler: its tables row by row, and simulations in the modules.

mod behaviour;
mod denials;
mod flights;
mod parallel_requests;
mod request_history;
mod results;
mod search;
mod simulation;
mod world;

use std::time::Duration;

use uuid::Uuid;

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
    LastError {
        class: "test".into(),
        http_status: None,
        code: None,
        message: String::new(),
        field: None,
        at: 0,
    }
}

/// A result whose body was sent at once.
pub(super) fn upload_result(verdict: &Verdict, elapsed: Duration) -> UploadResult {
    UploadResult {
        verdict: verdict.clone(),
        error: error(),
        elapsed,
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

/// A scheduler, and the view that it gets.
struct TestPlanner {
    scheduler: Scheduler,
    config: Config,
    backlog: Backlog,
    link: LinkState,
    deferral: Option<Deferral>,
    mode: Mode,
    now: Duration,
}

impl TestPlanner {
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
        let mut planner = Self::new(Vec::new());
        planner.start_send(open, load(open.records));
        planner
    }

    fn start_send(&mut self, open: &OpenBatch, load: Load) {
        self.with_view(|scheduler, view| scheduler.start_send(view, open, load));
    }

    fn with_view<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
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
        self.with_view(|scheduler, view| scheduler.next_action(view))
    }

    fn respond_to(&mut self, open: &OpenBatch, verdict: &Verdict) -> Disposition {
        let error = LastError { http_status: verdict.is_denial().then_some(403), ..error() };
        let result = UploadResult { error, ..upload_result(verdict, SECOND) };
        self.with_view(|scheduler, view| scheduler.on_response(view, open.id, &result))
    }
}

fn load(records: usize) -> Load {
    let mut load = Load::default();
    (0..records).for_each(|_| load.add_record("Visits", 300));
    load
}

fn rests(phase: Phase, until: Option<Duration>) -> Action {
    Action::Rest { phase, until, cause: None }
}

fn waits_for(until: Duration, cause: WaitCause) -> Action {
    Action::Rest { phase: Phase::Waiting, until: Some(until), cause: Some(cause) }
}

#[test]
fn the_next_action_follows_from_the_view() {
    let open = batch(20, BatchPhase::Waiting);
    let other = OpenBatch {
        id: BatchId(Uuid::from_u128(2)),
        place: QueuePosition(9),
        ..batch(5, BatchPhase::Waiting)
    };
    let unclear = batch(20, BatchPhase::Unclear);
    let planner = |change: &dyn Fn(&mut TestPlanner)| {
        let mut planner = TestPlanner::new(vec![open.clone(), other.clone()]);
        change(&mut planner);
        planner.next()
    };
    let sends = |action: &Action, id| matches!(action, Action::Send(sent, _) if *sent == id);
    assert_eq!(planner(&|planner| planner.backlog.paused = true), rests(Phase::Paused, None));
    assert_eq!(planner(&|planner| planner.backlog = Backlog::default()), rests(Phase::Idle, None));
    assert_eq!(planner(&|planner| planner.config.server.url.clear()), rests(Phase::Misconfigured, None));
    assert_eq!(planner(&|planner| planner.link = LinkState::Offline), rests(Phase::Offline, None));
    assert_eq!(planner(&|planner| planner.link = LinkState::CaptivePortal), rests(Phase::Offline, None));
    let (soon, later) = (99 * SECOND, 101 * SECOND);
    let stop_until = |planner: &mut TestPlanner, until| {
        planner.scheduler.waits.wait_until(planner.now, planner.now, until, WaitReason::AuthRequired);
        planner.scheduler.waits.confirm();
    };
    assert_eq!(planner(&|planner| stop_until(planner, later)), rests(Phase::AuthRequired, Some(later)));
    assert!(sends(&planner(&|planner| stop_until(planner, soon)), open.id));
    let backs_off = |planner: &mut TestPlanner| {
        planner.scheduler.waits.wait_until(planner.now, planner.now, later, WaitReason::BackOff);
    };
    assert_eq!(planner(&backs_off), waits_for(later, WaitCause::BackOff));
    let asked = |planner: &mut TestPlanner| {
        planner.scheduler.waits.wait_until(planner.now, planner.now, later, WaitReason::ServerAsked);
    };
    assert_eq!(planner(&asked), waits_for(later, WaitCause::ServerAsked));
    let open_for_longer = |planner: &mut TestPlanner| {
        asked(planner);
        planner.mode = Mode::Open { until: later + SECOND };
    };
    let last = waits_for(later + SECOND, WaitCause::Breaker);
    assert_eq!(planner(&open_for_longer), last, "the cause that ends last is named");
    assert_eq!(
        planner(&|planner| planner.mode = Mode::Open { until: later }),
        waits_for(later, WaitCause::Breaker)
    );
    let deferred = |planner: &mut TestPlanner| planner.deferral = Some(Deferral::Metered);
    assert_eq!(planner(&deferred), rests(Phase::Deferred, None));
    let wanted = |planner: &mut TestPlanner| {
        deferred(planner);
        planner.with_view(Scheduler::override_deferral);
    };
    assert!(sends(&planner(&wanted), open.id), "a person overrides the deferral");
    let next_run = |planner: &mut TestPlanner| {
        wanted(planner);
        planner.scheduler.start_run();
    };
    assert_eq!(planner(&next_run), rests(Phase::Deferred, None), "but only once");
    let settled = |planner: &mut TestPlanner| {
        wanted(planner);
        planner.backlog.settled_total += 500;
    };
    assert_eq!(planner(&settled), rests(Phase::Deferred, None), "later records wait");
    let beforehand = |planner: &mut TestPlanner| {
        planner.with_view(Scheduler::override_deferral);
        deferred(planner);
    };
    assert_eq!(planner(&beforehand), rests(Phase::Deferred, None), "an earlier request does not count");
    assert!(sends(&planner(&|_| {}), open.id), "parts are sent in queue order");
    assert!(sends(&planner(&|planner| planner.mode = Mode::Probing), other.id), "the smallest is the probe");
    assert!(matches!(planner(&|planner| planner.scheduler.search.want_canary()), Action::Claim(_)));
    let nothing_fresh = |planner: &mut TestPlanner| {
        planner.scheduler.search.want_canary();
        planner.backlog.claimable = false;
    };
    assert!(sends(&planner(&nothing_fresh), open.id), "another part serves as the canary, too");

    let mut planner = TestPlanner::new(vec![unclear.clone(), other.clone()]);
    assert_eq!(planner.next(), Action::QueryOutcome(unclear.id));
    planner.config.server.outcome_lookup = OutcomeLookup::Off;
    assert!(sends(&planner.next(), unclear.id), "no outcome query, but a resend with the same id");
    planner.config.retry.quarantine_after = 3;
    let faulty = OpenBatch { lone_failures: 5, ..batch(1, BatchPhase::Waiting) };
    assert_eq!(
        TestPlanner { scheduler: TestPlanner::new(vec![faulty.clone()]).scheduler, ..planner }.next(),
        Action::Quarantine(faulty.id)
    );
}

#[test]
fn a_batch_that_keeps_failing_as_the_probe_is_replaced_by_another() {
    let worn = OpenBatch { attempt: 3, ..batch(1, BatchPhase::Waiting) };
    let mut planner = TestPlanner::new(vec![worn.clone()]);
    planner.mode = Mode::Probing;
    assert!(matches!(planner.next(), Action::Claim(_)));
    planner.backlog.claimable = false;
    assert!(matches!(planner.next(), Action::Send(id, _) if id == worn.id));
}

#[test]
fn measurements_of_one_server_are_not_used_for_another() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let mut planner = TestPlanner::sent(&open);
    planner.scheduler.switch_server(&planner.config);
    planner.respond_to(&open, &Verdict::Completed(Vec::new()));
    let known = |planner: &mut TestPlanner| {
        planner.with_view(|scheduler, view| scheduler.learned_state(view)).service.has_measurements()
    };
    planner.scheduler.switch_server(&planner.config);
    assert!(known(&mut planner));
    planner.config.server.url = "https://another.example".into();
    planner.scheduler.switch_server(&planner.config);
    assert!(!known(&mut planner));
}

#[test]
fn a_replayed_response_is_not_a_measurement() {
    let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
    let mut planner = TestPlanner::sent(&open);
    for _ in 0..2 {
        planner.scheduler.learned.time_limit.record_timeout(30 * SECOND, Duration::ZERO, 60 * SECOND);
    }
    let before = planner.scheduler.learned.clone();
    assert_eq!(before.time_limit(60 * SECOND), 30 * SECOND);
    let result = upload_result(&Verdict::Completed(Vec::new()), 40 * SECOND);
    let result = UploadResult { is_replayed: true, network: Network::default(), ..result };
    planner.with_view(|scheduler, view| scheduler.on_response(view, open.id, &result));
    let after = &planner.scheduler.learned;
    assert_eq!((&after.service, after.time_limit), (&before.service, before.time_limit));
}

#[test]
fn a_full_scheduler_waits_for_a_batch_although_records_are_due() {
    let mut planner = TestPlanner::new(Vec::new());
    for number in 0..1000 {
        let id = BatchId(Uuid::from_u128(number));
        planner.start_send(&OpenBatch { id, ..batch(1, BatchPhase::InFlight) }, load(1));
        planner.scheduler.open.set_step(id, NextStep::Send { due: 200 * SECOND });
    }
    planner.backlog.next_due_at = Some(1);
    assert_eq!(planner.next(), waits_for(200 * SECOND, WaitCause::BackOff));
}

#[test]
fn every_verdict_has_its_disposition() {
    let keep = |phase, error| Disposition::Keep { phase, lone_failures: 0, error };
    let waits = || keep(BatchPhase::Waiting, None);
    let detail = || ErrorDetail { code: "INVALID".into(), message: "no".into(), position: None };
    let cut = |error| Disposition::Cut { cut: isolation::cut_in_half(20), error };
    let zero = Some(Duration::ZERO);
    let (idle, sends) = (Some(false), Some(true));
    // Whether something is sent immediately; none if the outcome is queried.
    for (verdict, disposition, sends_next) in [
        (Verdict::Ambiguous(Ambiguity::TimedOut), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::Ambiguous(Ambiguity::ServerError), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::Ambiguous(Ambiguity::ConnectionLost), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::Ambiguous(Ambiguity::LinkTooSlow), keep(BatchPhase::Unclear, Some(error())), None),
        (Verdict::StillProcessing { retry_after: zero }, keep(BatchPhase::Unclear, None), None),
        (Verdict::Refused(detail()), cut(Some(error())), sends),
        (Verdict::TooLarge, cut(None), sends),
        (Verdict::BatchIdReused, Disposition::Rename { lone_failures: 0 }, idle),
        (Verdict::EncodingRefused, waits(), sends),
        (Verdict::Unreachable, waits(), idle),
        (Verdict::Intercepted, waits(), idle),
        (Verdict::Throttled { retry_after: Some(MINUTE), is_protocol: true }, waits(), idle),
        (Verdict::Throttled { retry_after: Some(MINUTE), is_protocol: false }, waits(), idle),
        (Verdict::Throttled { retry_after: zero, is_protocol: true }, waits(), idle),
        (Verdict::Throttled { retry_after: None, is_protocol: false }, waits(), idle),
        // An outcome query shows whether all requests are denied.
        (Verdict::Unauthorized, waits(), None),
        (Verdict::EndpointNotFound, waits(), None),
    ] {
        let open = OpenBatch { attempt: 1, ..batch(20, BatchPhase::InFlight) };
        let mut planner = TestPlanner::sent(&open);
        assert_eq!(planner.respond_to(&open, &verdict), disposition, "{verdict:?}");
        match (sends_next, planner.next()) {
            (Some(false), Action::Rest { until: Some(until), .. }) => assert!(until > planner.now),
            (Some(true), Action::Send(..) | Action::Claim(_))
            | (None, Action::Claim(_) | Action::QueryOutcome(_)) => {}
            (_, action) => panic!("{verdict:?} then {action:?}"),
        }
    }
}

#[test]
fn a_slow_link_implicates_the_size_of_a_batch_but_never_a_record() {
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
fn every_outcome_reply_has_its_disposition() {
    let keep = |error| Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error };
    let cut = || Disposition::Cut { cut: isolation::cut_in_half(20), error: None };
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
        let mut planner = TestPlanner::sent(&open);
        planner.respond_to(&open, &Verdict::Ambiguous(doubt));
        let disposition =
            planner.with_view(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &found));
        assert_eq!(disposition, expected, "{doubt:?} {found:?}");
    }
    let open = batch(20, BatchPhase::InFlight);
    let mut planner = TestPlanner::sent(&open);
    planner.respond_to(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
    planner.now += Duration::from_hours(1);
    let processing = OutcomeReply::Processing { retry_after: Some(MINUTE) };
    let disposition =
        planner.with_view(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &processing));
    assert_eq!(disposition, Some(cut()), "the wait for the outcome ends");
}
