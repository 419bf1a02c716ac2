//! The crate's own policy, driven as by the planner: with a queue in memory that follows the scheduler's dispositions,
//! and the breaker. Only this file uses the policy's types.

use std::collections::BTreeMap;
use std::time::Duration;

use fieldsync::config::Config;
use fieldsync::model::{
    Backlog, BatchId, BatchPhase, LastError, LinkState, Network, OpenBatch, QueuePosition, SizeRule, Stage,
};
use fieldsync::policy::backoff;
use fieldsync::policy::breaker::Breaker;
use fieldsync::policy::learned::Learned;
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::reach::{Evidence, LinkAction, ProbeIntervals, Reach};
use fieldsync::policy::scheduler::{Action, ClaimOrder, Disposition, Outcome, Scheduler, View};
use fieldsync::policy::service_time::Load;
use fieldsync::policy::verdict::{UploadResult, Verdict};

use crate::world::{Exchange, World, member};

/// The types of the records.
const RECORD_TYPES: [&str; 3] = ["Visits", "Orders", "Deals"];
/// How long the transport waits beyond the server's time limit.
const RESPONSE_GRACE: Duration = Duration::from_secs(12);
/// The time that a step costs the device. Without it, a loop of steps would never end.
const STEP_DURATION: Duration = Duration::from_millis(1);
/// The wall clock at the start.
const EPOCH_MS: u64 = 1_000_000;
/// How soon a link behind a portal is tried again.
const PROBE_INTERVALS: ProbeIntervals = ProbeIntervals {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(15),
    reopen_jitter: Duration::from_millis(500),
};

struct Driver<'w> {
    world: &'w mut World,
    scheduler: Scheduler,
    breaker: Breaker,
    config: Config,
    open: BTreeMap<BatchId, (OpenBatch, Vec<usize>)>,
    /// FAILED records, and when they are due, in steady milliseconds.
    failed: BTreeMap<usize, u64>,
    attempts: Vec<u32>,
    /// A record that the server has, for canaries.
    canary: Option<usize>,
    offline: bool,
    /// What requests show about the link, and the planned attempt.
    reach: Reach,
    planned: LinkAction,
    rng: fastrand::Rng,
}

pub(crate) fn run(world: &mut World) {
    let mut rng = world.rng.fork();
    let mut config = Config::default();
    config.server.url = "https://sync.example".into();
    config.server.request_timeout.0 = world.configured_limit();
    let attempts = vec![0; world.records.len()];
    Driver {
        world,
        scheduler: Scheduler::new(Vec::new(), Learned::default(), rng.fork()),
        breaker: Breaker::default(),
        config,
        open: BTreeMap::new(),
        failed: BTreeMap::new(),
        attempts,
        canary: None,
        offline: false,
        reach: Reach::default(),
        planned: LinkAction::Idle,
        rng,
    }
    .run();
}

impl Driver<'_> {
    /// Runs until no record is left, the horizon is reached, or the scheduler waits for nothing that could happen.
    fn run(&mut self) {
        while !self.world.is_done() && !self.world.is_past_horizon() {
            match self.with_view(|scheduler, view| scheduler.next_action(view)) {
                Action::Rest { until, .. } => {
                    if !self.wait_until_due(until) {
                        return;
                    }
                }
                Action::Claim(order) => self.claim_batch(order),
                Action::Send(id, _) => self.upload_batch(id),
                Action::QueryOutcome(id) => self.query_outcome(id),
                Action::Quarantine(id) => {
                    let disposition =
                        self.with_view(|scheduler, view| scheduler.quarantine_isolated(view, id));
                    self.settle_batch(id, disposition);
                }
                Action::Divide(id) => {
                    let disposition = self.with_view(|scheduler, view| scheduler.divide_batch(view, id));
                    self.settle_batch(id, disposition);
                }
                Action::SendCanary(_) => self.send_canary(),
            }
            self.world.wait(STEP_DURATION);
        }
    }

    fn wait_until_due(&mut self, until: Option<Duration>) -> bool {
        if self.offline {
            let up = self.world.link_up();
            self.world.wait_until(up.from);
            self.offline = false;
            self.scheduler.link_restored(self.world.now);
            self.breaker.try_now(self.world.now);
            return true;
        }
        if self.reach.is_closed() {
            return self.try_link();
        }
        let next = [until, self.world.next_arrival()].into_iter().flatten().min();
        if let Some(next) = next {
            self.world.wait_until(next);
        }
        next.is_some()
    }

    /// Waits until the planned attempt is due, and makes it.
    fn try_link(&mut self) -> bool {
        let before = self.reach.reopenings();
        match std::mem::replace(&mut self.planned, LinkAction::Idle) {
            LinkAction::Probe(wait) => {
                self.world.wait(wait);
                let id = self.world.new_batch_id();
                self.world.query_outcome(id);
                self.reach.finish_probe();
                self.record_evidence(Evidence::ServerResponded);
            }
            LinkAction::Reopen(wait) => {
                self.world.wait(wait);
                self.reach.reopen();
            }
            LinkAction::KeepPlan | LinkAction::Idle => return false,
        }
        if self.reach.reopenings() != before {
            self.scheduler.link_restored(self.world.now);
            self.breaker.try_now(self.world.now);
        }
        true
    }

    fn record_evidence(&mut self, evidence: Evidence) {
        let next = self.reach.record_evidence(evidence, true, &PROBE_INTERVALS, &mut self.rng);
        if next != LinkAction::KeepPlan {
            self.planned = next;
        }
    }

    fn wall_ms(&self) -> u64 {
        EPOCH_MS + u64::try_from(self.world.now.as_millis()).unwrap_or(u64::MAX)
    }

    fn backlog(&self) -> Backlog {
        let (records, bytes) = self.world.open_totals();
        Backlog {
            pending: (records - self.failed.len()) as u64,
            failed: self.failed.len() as u64,
            bytes,
            next_due_at: self.failed.values().min().copied(),
            claimable: !self.world.waiting().is_empty(),
            ..Backlog::default()
        }
    }

    fn with_view<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
        let (backlog, wall_ms) = (self.backlog(), self.wall_ms());
        let view = View {
            now: self.world.now,
            wall_ms,
            steady_ms: wall_ms,
            config: &self.config,
            backlog: &backlog,
            link: if self.offline { LinkState::Offline } else { self.reach.state() },
            deferral: None,
            breaker: self.breaker.state(),
        };
        decide(&mut self.scheduler, &view)
    }

    /// Claims waiting records and failed ones that are due, in queue order.
    fn claim_batch(&mut self, ClaimOrder { limit, .. }: ClaimOrder) {
        let steady_ms = self.wall_ms();
        let due = self.failed.iter().filter(|(_, due)| **due <= steady_ms).map(|(member, _)| *member);
        let mut ready: Vec<usize> = self.world.waiting().iter().copied().take(limit.records).collect();
        ready.extend(due);
        ready.sort_unstable();
        let mut filling = limit.start_filling();
        let fitting = ready.iter().take_while(|member| {
            let record = &self.world.records[**member];
            filling.admit_record(RECORD_TYPES[record.kind], record.bytes)
        });
        ready.truncate(fitting.count());
        if ready.is_empty() {
            return;
        }
        self.world.take_these(&ready);
        for member in &ready {
            self.failed.remove(member);
        }
        let id = self.open_batch(ready, None, Stage::Fresh, filling.rule());
        self.upload_batch(id);
    }

    fn open_batch(
        &mut self,
        members: Vec<usize>,
        parent: Option<BatchId>,
        stage: Stage,
        rule: SizeRule,
    ) -> BatchId {
        let id = self.world.new_batch_id();
        let open = OpenBatch {
            id,
            parent,
            stage,
            rule,
            place: QueuePosition(members.first().map_or(0, |first| *first as u64)),
            records: members.len(),
            bytes: self.world.bytes(&members),
            attempt: 0,
            lone_failures: 0,
            phase: BatchPhase::Waiting,
        };
        self.open.insert(id, (open, members));
        id
    }

    fn upload_batch(&mut self, id: BatchId) {
        let Some((open, members)) = self.open.get_mut(&id) else { return self.scheduler.forget_batch(id) };
        open.attempt += 1;
        open.phase = BatchPhase::InFlight;
        let (open, members) = (open.clone(), members.clone());
        let mut load = Load::default();
        for record in members.iter().map(|member| &self.world.records[*member]) {
            load.add_record(RECORD_TYPES[record.kind], record.bytes);
        }
        self.scheduler.start_send(self.world.now, &open, load);
        if self.breaker.permit(self.world.now).is_err() {
            let disposition = self.with_view(|scheduler, view| scheduler.defer_send(view, id));
            return self.settle_batch(id, disposition);
        }
        for member in &members {
            self.attempts[*member] += 1;
        }
        let deadline = self.scheduler.response_deadline(&self.config, id);
        let Exchange { verdict, status, elapsed, sending } = self.post_batch(id, &members, deadline);
        let error = LastError {
            class: verdict.class().into(),
            http_status: status,
            code: None,
            message: String::new(),
            field: None,
            at: self.wall_ms(),
        };
        let result = UploadResult {
            verdict,
            error,
            elapsed,
            is_replayed: false,
            hints: None,
            network: Network { sent: sending, ..Network::default() },
        };
        let disposition = self.with_view(|scheduler, view| scheduler.on_response(view, id, &result));
        self.settle_batch(id, disposition);
    }

    fn post_batch(&mut self, id: BatchId, members: &[usize], deadline: Option<Duration>) -> Exchange {
        let deadline = deadline.unwrap_or(self.config.server.request_timeout.0 + RESPONSE_GRACE);
        let exchange = self.world.post(id, members, Some(deadline));
        let (now, effect) = (self.world.now, exchange.verdict.effect());
        self.breaker.record_response(now, effect, &self.config.breaker, &mut self.rng);
        self.watch_link();
        match exchange.verdict {
            Verdict::Intercepted if self.scheduler.is_denied_alone(id) => {}
            Verdict::Intercepted => self.record_evidence(Evidence::Intercepted),
            _ if exchange.status.is_some() => self.record_evidence(Evidence::ServerResponded),
            _ => {}
        }
        exchange
    }

    /// The system reports when the link goes down, so no attempt is needed to notice it.
    fn watch_link(&mut self) {
        self.offline = !self.world.link_is_up();
    }

    /// Sends a record once more that the server has.
    fn send_canary(&mut self) {
        if self.breaker.permit(self.world.now).is_err() {
            return;
        }
        let Some(sample) = self.canary else { return };
        let id = self.world.new_batch_id();
        let verdict: Verdict = self.post_batch(id, &[sample], None).verdict;
        self.with_view(|scheduler, view| scheduler.on_canary_response(view, id, &verdict));
    }

    fn query_outcome(&mut self, id: BatchId) {
        let (found, _): (OutcomeReply, Duration) = self.world.query_outcome(id);
        let effect = found.effect();
        self.breaker.record_query(self.world.now, effect, &self.config.breaker, &mut self.rng);
        self.watch_link();
        if let Some(disposition) =
            self.with_view(|scheduler, view| scheduler.on_outcome_reply(view, id, &found))
        {
            self.settle_batch(id, disposition);
        }
    }

    fn settle_batch(&mut self, id: BatchId, disposition: Disposition) {
        let Some((open, members)) = self.open.remove(&id) else { return };
        match disposition {
            Disposition::Close { outcomes, missing, retry_after } => {
                let outcomes: BTreeMap<usize, Outcome> =
                    outcomes.into_iter().map(|(id, outcome)| (member(id), outcome)).collect();
                let due = self.retry_due(&members, retry_after);
                for member in members {
                    self.close_record(member, outcomes.get(&member).unwrap_or(&missing), due);
                }
            }
            Disposition::Keep { phase, lone_failures, .. } => {
                self.open.insert(id, (OpenBatch { lone_failures, phase, ..open }, members));
            }
            Disposition::Cut { cut, .. } => {
                let mut rest = members.into_iter();
                for size in cut.parts {
                    let part = rest.by_ref().take(size).collect();
                    self.continue_as(part, id, cut.stage, SizeRule::Split);
                }
            }
            Disposition::Rename { .. } => self.continue_as(members, id, open.stage, open.rule),
        }
    }

    /// When the records of one response are sent again: together.
    fn retry_due(&mut self, members: &[usize], retry_after: Duration) -> u64 {
        let retry = &self.config.retry;
        let attempts = members.iter().map(|member| self.attempts[*member]).max().unwrap_or(1);
        let wait =
            backoff::backoff_delay(retry.initial_backoff.0, retry.max_backoff.0, attempts, &mut self.rng);
        self.wall_ms() + u64::try_from(wait.max(retry_after).as_millis()).unwrap_or(u64::MAX)
    }

    fn close_record(&mut self, member: usize, outcome: &Outcome, due: u64) {
        match outcome {
            Outcome::Synced(_) => {
                self.world.mark_synced(member);
                self.canary = Some(member);
                self.scheduler.canary_confirmed();
            }
            Outcome::Quarantine(_) => self.world.quarantine(member),
            Outcome::Retry(_) => drop(self.failed.insert(member, due)),
        }
    }

    fn continue_as(&mut self, members: Vec<usize>, parent: BatchId, stage: Stage, rule: SizeRule) {
        let id = self.open_batch(members, Some(parent), stage, rule);
        let opened = self.open.get(&id).map(|(open, _)| open.clone());
        self.scheduler.track_batches(self.world.now, opened.into_iter().collect());
    }
}
