//! The crate's own policy, driven as the planner drives it: a queue in memory that obeys the scheduler's
//! dispositions, and the breaker in between. All that knows the policy's types stands in this file.

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
use fieldsync::policy::reach::{Evidence, Next, Pace, Reach};
use fieldsync::policy::scheduler::{Action, ClaimOrder, Disposition, Outcome, Scheduler, View};
use fieldsync::policy::service_time::Load;
use fieldsync::policy::verdict::{UploadResult, Verdict};

use crate::world::{Exchange, World, member};

/// The names of the types.
const TYPES: [&str; 3] = ["Visits", "Orders", "Deals"];
/// What the transport waits for beyond the server's time limit.
const PATIENCE: Duration = Duration::from_secs(12);
/// What a step costs the device; it also ends what would go on for ever.
const STEP: Duration = Duration::from_millis(1);
/// The wall clock at the start.
const EPOCH_MS: u64 = 1_000_000;
/// How soon a way that a portal closed is tried again.
const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(15),
    jitter: Duration::from_millis(500),
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
    /// A record that the server has, for controls.
    sample: Option<usize>,
    offline: bool,
    /// What requests say of the way, and what is to be done about it.
    reach: Reach,
    planned: Next,
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
        sample: None,
        offline: false,
        reach: Reach::default(),
        planned: Next::Rest,
        rng,
    }
    .run();
}

impl Driver<'_> {
    /// Until nothing is left, nobody looks any longer, or the scheduler sleeps without a reason to wake.
    fn run(&mut self) {
        while !self.world.is_done() && !self.world.over() {
            match self.look(|scheduler, view| scheduler.next_action(view)) {
                Action::Rest { until, .. } => {
                    if !self.rest(until) {
                        return;
                    }
                }
                Action::Claim(order) => self.claim(order),
                Action::Send(id, _) => self.upload(id),
                Action::QueryOutcome(id) => self.look_up(id),
                Action::Quarantine(id) => {
                    let disposition = self.look(|scheduler, view| scheduler.quarantine_isolated(view, id));
                    self.settle(id, disposition);
                }
                Action::Divide(id) => {
                    let disposition = self.look(|scheduler, view| scheduler.divide_batch(view, id));
                    self.settle(id, disposition);
                }
                Action::SendCanary(_) => self.control(),
            }
            self.world.wait(STEP);
        }
    }

    fn rest(&mut self, until: Option<Duration>) -> bool {
        if self.offline {
            let up = self.world.link_up();
            self.world.wait_until(up.from);
            self.offline = false;
            self.scheduler.link_restored(self.world.now);
            self.breaker.hurry(self.world.now);
            return true;
        }
        if self.reach.is_closed() {
            return self.probe();
        }
        let next = [until, self.world.next_arrival()].into_iter().flatten().min();
        if let Some(next) = next {
            self.world.wait_until(next);
        }
        next.is_some()
    }

    /// Waits until the way is to be tried, and tries it.
    fn probe(&mut self) -> bool {
        let before = self.reach.returns();
        match std::mem::replace(&mut self.planned, Next::Rest) {
            Next::Probe(wait) => {
                self.world.wait(wait);
                let id = self.world.new_batch_id();
                self.world.look_up(id);
                self.reach.probed();
                self.met(Evidence::Reached);
            }
            Next::Return(wait) => {
                self.world.wait(wait);
                self.reach.returned();
            }
            Next::Stay | Next::Rest => return false,
        }
        if self.reach.returns() != before {
            self.scheduler.link_restored(self.world.now);
            self.breaker.hurry(self.world.now);
        }
        true
    }

    fn met(&mut self, evidence: Evidence) {
        let next = self.reach.met(evidence, true, &PACE, &mut self.rng);
        if next != Next::Stay {
            self.planned = next;
        }
    }

    fn wall_ms(&self) -> u64 {
        EPOCH_MS + u64::try_from(self.world.now.as_millis()).unwrap_or(u64::MAX)
    }

    fn backlog(&self) -> Backlog {
        let (records, bytes) = self.world.open();
        Backlog {
            pending: (records - self.failed.len()) as u64,
            failed: self.failed.len() as u64,
            bytes,
            next_due_at: self.failed.values().min().copied(),
            claimable: !self.world.waiting().is_empty(),
            ..Backlog::default()
        }
    }

    fn look<T>(&mut self, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
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

    /// In queue order, those that are due again among them.
    fn claim(&mut self, ClaimOrder { limit, .. }: ClaimOrder) {
        let steady_ms = self.wall_ms();
        let due = self.failed.iter().filter(|(_, due)| **due <= steady_ms).map(|(member, _)| *member);
        let mut ready: Vec<usize> = self.world.waiting().iter().copied().take(limit.records).collect();
        ready.extend(due);
        ready.sort_unstable();
        let mut filling = limit.filling();
        let fitting = ready.iter().take_while(|member| {
            let record = &self.world.records[**member];
            filling.admit(TYPES[record.kind], record.bytes)
        });
        ready.truncate(fitting.count());
        if ready.is_empty() {
            return;
        }
        self.world.take_these(&ready);
        for member in &ready {
            self.failed.remove(member);
        }
        let id = self.open_as(ready, None, Stage::Fresh, filling.rule());
        self.upload(id);
    }

    fn open_as(
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

    fn upload(&mut self, id: BatchId) {
        let Some((open, members)) = self.open.get_mut(&id) else { return self.scheduler.forget_batch(id) };
        open.attempt += 1;
        open.phase = BatchPhase::InFlight;
        let (open, members) = (open.clone(), members.clone());
        let mut load = Load::default();
        for record in members.iter().map(|member| &self.world.records[*member]) {
            load.add(TYPES[record.kind], record.bytes);
        }
        self.scheduler.start_send(self.world.now, &open, load);
        if self.breaker.permit(self.world.now).is_err() {
            let disposition = self.look(|scheduler, view| scheduler.defer_send(view, id));
            return self.settle(id, disposition);
        }
        for member in &members {
            self.attempts[*member] += 1;
        }
        let patience = self.scheduler.response_deadline(&self.config, id);
        let Exchange { verdict, status, took, sending } = self.post(id, &members, patience);
        let error = LastError {
            class: verdict.class().into(),
            http_status: status,
            code: None,
            message: String::new(),
            at: self.wall_ms(),
        };
        let result = UploadResult {
            verdict,
            error,
            took,
            is_replayed: false,
            hints: None,
            network: Network { sent: sending, ..Network::default() },
        };
        let disposition = self.look(|scheduler, view| scheduler.on_response(view, id, &result));
        self.settle(id, disposition);
    }

    fn post(&mut self, id: BatchId, members: &[usize], patience: Option<Duration>) -> Exchange {
        let patience = patience.unwrap_or(self.config.server.request_timeout.0 + PATIENCE);
        let exchange = self.world.post(id, members, Some(patience));
        let (now, effect) = (self.world.now, exchange.verdict.effect());
        self.breaker.record(now, effect, &self.config.breaker, &mut self.rng);
        self.sense_link();
        match exchange.verdict {
            Verdict::Intercepted if self.scheduler.is_denied_alone(id) => {}
            Verdict::Intercepted => self.met(Evidence::Portal),
            _ if exchange.status.is_some() => self.met(Evidence::Reached),
            _ => {}
        }
        exchange
    }

    /// The system tells when the link goes; nobody needs to try.
    fn sense_link(&mut self) {
        self.offline = !self.world.link_is_up();
    }

    /// Sends a record that the server has, once more.
    fn control(&mut self) {
        if self.breaker.permit(self.world.now).is_err() {
            return;
        }
        let Some(sample) = self.sample else { return };
        let id = self.world.new_batch_id();
        let verdict: Verdict = self.post(id, &[sample], None).verdict;
        self.look(|scheduler, view| scheduler.on_canary_response(view, id, &verdict));
    }

    fn look_up(&mut self, id: BatchId) {
        let (found, _): (OutcomeReply, Duration) = self.world.look_up(id);
        let effect = found.effect();
        self.breaker.looked_up(self.world.now, effect, &self.config.breaker, &mut self.rng);
        self.sense_link();
        if let Some(disposition) = self.look(|scheduler, view| scheduler.on_outcome_reply(view, id, &found)) {
            self.settle(id, disposition);
        }
    }

    fn settle(&mut self, id: BatchId, disposition: Disposition) {
        let Some((open, members)) = self.open.remove(&id) else { return };
        match disposition {
            Disposition::Close { outcomes, missing } => {
                let outcomes: BTreeMap<usize, Outcome> =
                    outcomes.into_iter().map(|(id, outcome)| (member(id), outcome)).collect();
                let due = self.retry_due(&members);
                for member in members {
                    self.close(member, outcomes.get(&member).unwrap_or(&missing), due);
                }
            }
            Disposition::Keep { phase, lone_failures, .. } => {
                self.open.insert(id, (OpenBatch { lone_failures, phase, ..open }, members));
            }
            Disposition::Cut { cut, .. } => {
                let mut rest = members.into_iter();
                for size in cut.parts {
                    let part = rest.by_ref().take(size).collect();
                    self.go_on(part, id, cut.stage, SizeRule::Split);
                }
            }
            Disposition::Rename { .. } => self.go_on(members, id, open.stage, open.rule),
        }
    }

    /// When records of one answer are tried again: together.
    fn retry_due(&mut self, members: &[usize]) -> u64 {
        let retry = &self.config.retry;
        let attempts = members.iter().map(|member| self.attempts[*member]).max().unwrap_or(1);
        let wait = backoff::delay(retry.initial_backoff.0, retry.max_backoff.0, attempts, &mut self.rng);
        self.wall_ms() + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
    }

    fn close(&mut self, member: usize, outcome: &Outcome, due: u64) {
        match outcome {
            Outcome::Synced => {
                self.world.synced(member);
                self.sample = Some(member);
                self.scheduler.canary_confirmed();
            }
            Outcome::Quarantine(_) => self.world.quarantine(member),
            Outcome::Retry(_) => drop(self.failed.insert(member, due)),
        }
    }

    fn go_on(&mut self, members: Vec<usize>, parent: BatchId, stage: Stage, rule: SizeRule) {
        let id = self.open_as(members, Some(parent), stage, rule);
        let opened = self.open.get(&id).map(|(open, _)| open.clone());
        self.scheduler.track_batches(self.world.now, opened.into_iter().collect());
    }
}
