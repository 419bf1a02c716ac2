//! A simulation around the scheduler: a queue in memory that follows its dispositions, a breaker, a clock that only
//! waits advance, and a server with a script. It is seeded, so that every failure can be reproduced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::behaviour::{Behaviour, QueryBehaviour};
use super::flights::{Flight, FlightKind};
use super::request_history::{PastRequest, RequestEffect, RequestHistory};
use super::{SECOND, batch, config};
use crate::config::Config;
use crate::model::{Backlog, BatchId, BatchPhase, LinkState, OpenBatch, QueuePosition, RecordId, Stage};
use crate::policy::breaker::Breaker;
use crate::policy::learned::Learned;
use crate::policy::scheduler::{Action, ClaimOrder, Disposition, Outcome, Scheduler, View};
use crate::policy::service_time::Load;
use crate::policy::verdict::{Ambiguity, Verdict};
use crate::protocol::wire::{ErrorDetail, RecordResult, RecordStatus};

/// Payload bytes of each record.
const RECORD_BYTES: u64 = 300;

/// Steps of a run for each batch that may be under way.
const STEPS_PER_SLOT_MAX: usize = 20_000;
/// Consecutive waits: when one wait ends, another may still be in effect.
const RESTS_IN_A_ROW_MAX: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RecordPlace {
    Free,
    Due(u64),
    In(BatchId),
    Synced,
    Quarantined,
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) breaker: Breaker,
    pub(super) config: Config,
    pub(super) now: Duration,
    pub(super) records: Vec<RecordPlace>,
    pub(super) open: BTreeMap<BatchId, (OpenBatch, Vec<usize>)>,
    pub(super) rng: fastrand::Rng,
    pub(super) queries: QueryBehaviour,
    stored: BTreeSet<usize>,
    pub(super) known: BTreeSet<BatchId>,
    history: RequestHistory,
    /// When records were last stored, and the longest time without that although some could be.
    last_stored: Duration,
    pub(super) longest_gap: Duration,
    /// Behaviours, and until when they apply. One of them is chosen for each request. Afterwards, the server works.
    pub(super) script: Vec<(Duration, Vec<Behaviour>)>,
    /// Faulty records, and the behaviour that each causes for any request that contains it.
    pub(super) poison: BTreeMap<usize, Behaviour>,
    pub(super) requests: usize,
    /// How often the process restarts during the run.
    pub(super) restarts: usize,
    /// Records that applications still enqueue, one at each rest.
    pub(super) arriving: usize,
    pub(super) flights: Vec<Flight>,
}

impl World {
    pub(super) fn new(records: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            scheduler: Scheduler::new(Vec::new(), Learned::default(), rng.fork()),
            breaker: Breaker::default(),
            config: config(),
            now: Duration::ZERO,
            records: vec![RecordPlace::Free; records],
            open: BTreeMap::new(),
            rng,
            queries: QueryBehaviour::Good,
            stored: BTreeSet::new(),
            known: BTreeSet::new(),
            history: RequestHistory::default(),
            last_stored: Duration::ZERO,
            longest_gap: Duration::ZERO,
            script: Vec::new(),
            poison: BTreeMap::new(),
            requests: 0,
            restarts: 0,
            arriving: 0,
            flights: Vec::new(),
        }
    }

    /// So many batches may be under way from the start.
    pub(super) fn with_slots(mut self, slots: usize) -> Self {
        let in_flight = serde_json::from_value(serde_json::json!({ "size": slots })).unwrap();
        let learned = Learned { in_flight, ..Learned::default() };
        self.config.batch.max_in_flight = slots;
        self.scheduler = Scheduler::new(Vec::new(), learned, self.rng.fork());
        self
    }

    fn wall(&self) -> u64 {
        1_000_000 + u64::try_from(self.now.as_millis()).unwrap()
    }

    fn backlog(&self) -> Backlog {
        let count =
            |wanted: fn(&RecordPlace) -> bool| self.records.iter().filter(|at| wanted(at)).count() as u64;
        let due = self
            .records
            .iter()
            .filter_map(|at| if let RecordPlace::Due(due) = at { Some(*due) } else { None });
        Backlog {
            pending: count(|at| matches!(at, RecordPlace::Free | RecordPlace::In(_))),
            failed: count(|at| matches!(at, RecordPlace::Due(_))),
            next_due_at: due.min(),
            claimable: self.records.contains(&RecordPlace::Free),
            ..Backlog::default()
        }
    }

    pub(super) fn with_view<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
        let (backlog, wall_ms) = (self.backlog(), self.wall());
        let view = View {
            now: self.now,
            wall_ms,
            steady_ms: wall_ms,
            config: &self.config,
            backlog: &backlog,
            link: LinkState::Online,
            deferral: None,
            breaker: self.breaker.state(),
        };
        decide(&mut self.scheduler, &view)
    }

    /// Runs until nothing is left to send. Returns the quarantined records.
    pub(super) fn run(&mut self) -> Vec<usize> {
        let mut rests = 0;
        for _ in 0..STEPS_PER_SLOT_MAX * self.config.batch.max_in_flight {
            let action = self.with_view(|scheduler, view| scheduler.next_action(view));
            let is_idle = self.flights.is_empty();
            rests = if is_idle && matches!(action, Action::Rest { .. }) { rests + 1 } else { 0 };
            assert!(rests <= RESTS_IN_A_ROW_MAX, "a retry timer that stalls");
            match action {
                Action::Rest { until, .. }
                    if self.next_response().is_some_and(|ends| until.is_none_or(|until| ends <= until)) =>
                {
                    self.deliver_response();
                }
                Action::Rest { until: Some(until), .. } => {
                    assert!(until > self.now, "a rest that ends at once");
                    self.now = until;
                    if self.restarts > 0 && self.rng.bool() {
                        self.restarts -= 1;
                        self.restart();
                    }
                    if self.arriving > 0 {
                        self.arriving -= 1;
                        self.records.push(RecordPlace::Free);
                    }
                }
                Action::Rest { until: None, phase, .. } => {
                    let to_go = self.backlog().to_go();
                    assert_eq!(to_go, 0, "asleep as {phase:?} with work to do");
                    return self.finished();
                }
                Action::Claim(order) => self.claim(&order),
                Action::Send(id, _) => self.upload(id),
                Action::QueryOutcome(id) => self.start_query(id),
                Action::Quarantine(id) => {
                    let disposition =
                        self.with_view(|scheduler, view| scheduler.quarantine_isolated(view, id));
                    self.settle(id, disposition);
                }
                Action::Divide(id) => {
                    let disposition = self.with_view(|scheduler, view| scheduler.divide_batch(view, id));
                    self.settle(id, disposition);
                }
                Action::SendCanary(_) => self.send_canary(),
            }
            self.now += Duration::from_millis(1);
            let known: Vec<BatchId> = self.scheduler.open.iter().map(|tracked| tracked.batch.id).collect();
            assert_eq!(known, self.open.keys().copied().collect::<Vec<_>>(), "an open batch is not tracked");
        }
        panic!("no end after {} requests, at {:?}: {:?}", self.requests, self.now, self.backlog());
    }

    fn finished(&self) -> Vec<usize> {
        let at = |wanted| (0..self.records.len()).filter(move |index| self.records[*index] == wanted);
        assert!(
            at(RecordPlace::Synced).all(|index| self.stored.contains(&index)),
            "synced, but not at the server"
        );
        at(RecordPlace::Quarantined).collect()
    }

    fn claim(&mut self, order: &ClaimOrder) {
        let wall = self.wall();
        let ready = |at: &RecordPlace| {
            matches!(at, RecordPlace::Free) || matches!(at, RecordPlace::Due(due) if *due <= wall)
        };
        let mut filling = order.limit.start_filling();
        let members: Vec<usize> = (0..self.records.len())
            .filter(|index| ready(&self.records[*index]))
            .take_while(|_| filling.admit_record("Visits", RECORD_BYTES))
            .collect();
        assert!(!members.is_empty(), "a claim that finds nothing");
        let id = self.open_as(members, None, Stage::Fresh);
        self.upload(id);
    }

    fn open_as(&mut self, members: Vec<usize>, parent: Option<BatchId>, stage: Stage) -> BatchId {
        let id = BatchId(Uuid::from_u128(self.rng.u128(..)));
        for member in &members {
            let elsewhere =
                matches!(self.records[*member], RecordPlace::In(other) if self.open.contains_key(&other));
            assert!(!elsewhere, "a record in two batches at once");
            self.records[*member] = RecordPlace::In(id);
        }
        let place = QueuePosition(members[0] as u64);
        let open = OpenBatch { id, parent, stage, place, ..batch(members.len(), BatchPhase::Waiting) };
        self.open.insert(id, (open, members));
        id
    }

    fn upload(&mut self, id: BatchId) {
        let (open, members) = self.open.get_mut(&id).unwrap();
        open.attempt += 1;
        open.phase = BatchPhase::InFlight;
        let (open, members) = (open.clone(), members.clone());
        let mut load = Load::default();
        for _ in &members {
            load.add_record("Visits", RECORD_BYTES);
        }
        self.with_view(|scheduler, view| scheduler.start_send(view, &open, load));
        if self.breaker.permit(self.now).is_err() {
            let disposition = self.with_view(|scheduler, view| scheduler.defer_send(view, id));
            return self.settle(id, disposition);
        }
        let (verdict, elapsed) = self.serve(id, &members);
        self.start_flight(id, elapsed, FlightKind::Batch(members, verdict));
    }

    pub(super) fn note_response(&mut self, sent_at: Duration, members: &[usize], verdict: &Verdict) {
        let effect = RequestEffect::of(verdict);
        if effect == RequestEffect::Stored {
            let could = self.records.iter().enumerate().any(|(index, at)| {
                !matches!(at, RecordPlace::Synced | RecordPlace::Quarantined)
                    && !self.poison.contains_key(&index)
            });
            if could {
                self.longest_gap = self.longest_gap.max(self.now.saturating_sub(self.last_stored));
            }
            self.last_stored = self.now;
        }
        let (members, ended_at) = (members.to_vec(), self.now);
        self.history.record_request(PastRequest { sent_at, ended_at, members, effect });
    }

    /// Sends a record again that the server already has.
    fn send_canary(&mut self) {
        if self.breaker.permit(self.now).is_err() {
            return;
        }
        let known = self
            .records
            .iter()
            .position(|at| *at == RecordPlace::Synced)
            .expect("a record that was confirmed");
        let id = BatchId(Uuid::from_u128(self.rng.u128(..)));
        self.scheduler.start_canary(self.now, id);
        let (verdict, elapsed) = self.serve(id, &[known]);
        self.start_flight(id, elapsed, FlightKind::Canary(known, verdict));
    }

    fn behaviour(&mut self, members: &[usize]) -> Behaviour {
        let now = self.now;
        if let Some((_, behaviours)) = self.script.iter().find(|(until, _)| now < *until) {
            return behaviours[self.rng.usize(..behaviours.len())];
        }
        members.iter().find_map(|member| self.poison.get(member)).copied().unwrap_or(Behaviour::Fine)
    }

    pub(super) fn results(members: &[usize], status: RecordStatus) -> Vec<RecordResult> {
        let result = |member: &usize| RecordResult::new(id(*member), status);
        members.iter().map(result).collect()
    }

    pub(super) fn serve(&mut self, id: BatchId, members: &[usize]) -> (Verdict, Duration) {
        let behaviour = self.behaviour(members);
        if matches!(behaviour, Behaviour::Fine | Behaviour::Late) {
            self.stored.extend(members);
            self.known.insert(id);
        }
        let limit = self.config.server.request_timeout.0;
        let detail = ErrorDetail { code: "INVALID".into(), message: "no".into(), position: None };
        let verdict = match behaviour {
            Behaviour::Fine => Verdict::Completed(Self::results(members, RecordStatus::Applied)),
            Behaviour::Later => Verdict::Completed(Self::results(members, RecordStatus::Retry)),
            Behaviour::Silent => Verdict::Completed(Vec::new()),
            Behaviour::Late | Behaviour::TimedOut => {
                return (Verdict::Ambiguous(Ambiguity::TimedOut), limit);
            }
            Behaviour::Failed => Verdict::Ambiguous(Ambiguity::ServerError),
            Behaviour::Lost => Verdict::Ambiguous(Ambiguity::ConnectionLost),
            Behaviour::Unreachable => Verdict::Unreachable,
            Behaviour::Portal => Verdict::Intercepted,
            Behaviour::Throttled => Verdict::Throttled { retry_after: None, is_protocol: false },
            Behaviour::Hurried => {
                Verdict::Throttled { retry_after: Some(Duration::ZERO), is_protocol: false }
            }
            Behaviour::Refused => Verdict::Refused(detail),
            Behaviour::TooLarge => Verdict::TooLarge,
            Behaviour::Busy => Verdict::StillProcessing { retry_after: Some(Duration::ZERO) },
            Behaviour::Reused => Verdict::BatchIdReused,
            Behaviour::Encoding => Verdict::EncodingRefused,
            Behaviour::Locked => Verdict::Unauthorized,
            Behaviour::Moved => Verdict::EndpointNotFound,
        };
        (verdict, SECOND)
    }

    pub(super) fn settle(&mut self, id: BatchId, disposition: Disposition) {
        let (open, members) = self.open.remove(&id).unwrap();
        match disposition {
            Disposition::Close { outcomes, missing, .. } => {
                for member in members {
                    let given = outcomes.iter().find(|(id, _)| *id == self::id(member));
                    self.records[member] = match given.map_or(&missing, |(_, outcome)| outcome) {
                        Outcome::Synced(_) => {
                            self.scheduler.canary_confirmed();
                            RecordPlace::Synced
                        }
                        Outcome::Retry(_) => RecordPlace::Due(self.wall() + self.rng.u64(100..60_000)),
                        Outcome::Quarantine(_) => {
                            let failures = self.history.failures_among_successes(member);
                            let needed = self.config.retry.quarantine_after as usize;
                            assert!(failures >= needed, "quarantined after {failures}");
                            RecordPlace::Quarantined
                        }
                    };
                }
            }
            Disposition::Keep { phase, lone_failures, .. } => {
                self.open.insert(id, (OpenBatch { lone_failures, phase, ..open }, members));
            }
            Disposition::Cut { cut, .. } => {
                let mut rest = members.into_iter();
                for size in cut.parts {
                    let part = rest.by_ref().take(size).collect();
                    let part = self.open_as(part, Some(id), cut.stage);
                    self.scheduler.track_batches(self.now, vec![self.open[&part].0.clone()]);
                }
                assert_eq!(rest.next(), None, "the parts are the whole");
            }
            Disposition::Rename { .. } => {
                let new = self.open_as(members, Some(id), open.stage);
                self.scheduler.track_batches(self.now, vec![self.open[&new].0.clone()]);
            }
        }
    }

    /// Restarts the process: only the state on disk survives.
    pub(super) fn restart(&mut self) {
        self.flights.clear();
        let open = self.open.values().map(|(open, _)| open.clone()).collect();
        let wall = self.wall();
        let note = self.with_view(|scheduler, view| scheduler.learned_state(view)).to_note();
        let learned = Learned::from_note(&note).expect("the saved state can be decoded");
        self.breaker = Breaker::restore(learned.breaker.restore(self.now, wall));
        self.scheduler = Scheduler::new(open, learned, self.rng.fork());
    }
}

fn id(member: usize) -> RecordId {
    RecordId(Uuid::from_u128(member as u128))
}
