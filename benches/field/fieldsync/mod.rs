//! The crate's own policy, driven as by the planner: actions on the store one at a time, requests beside each other.
//! Only this directory uses the policy's types.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | asks the scheduler, starts its actions, and reports their results |
//! | `queue` | a queue in memory that follows the scheduler's dispositions |
//! | `link_watch` | what the device knows about its link |

mod link_watch;
mod queue;

use std::collections::BTreeMap;
use std::time::Duration;

use fieldsync::config::Config;
use fieldsync::model::{BatchId, LastError, Network};
use fieldsync::policy::breaker::Breaker;
use fieldsync::policy::learned::Learned;
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::reach::Evidence;
use fieldsync::policy::scheduler::{Action, Disposition, Scheduler, View};
use fieldsync::policy::service_time::Load;
use fieldsync::policy::verdict::{UploadResult, Verdict};

use self::link_watch::{Due, LinkWatch};
use self::queue::{Queue, Retry};
use crate::client::{Client, run_clients};
use crate::events::{DeviceId, RequestId};
use crate::requests::Exchange;
use crate::world::{Notice, World};

/// The types of the records.
const RECORD_TYPES: [&str; 3] = ["Visits", "Orders", "Deals"];
/// How long the transport waits beyond the server's time limit.
const RESPONSE_GRACE: Duration = Duration::from_secs(12);
/// The time that a step costs the device. Without it, a loop of steps would never end.
const STEP_DURATION: Duration = Duration::from_millis(1);
/// The wall clock at the start.
const EPOCH_MS: u64 = 1_000_000;

/// A request under way, with the time when it was sent.
#[derive(Clone, Copy, Debug)]
enum UnderWay {
    Batch(BatchId, Duration),
    Canary(BatchId, Duration),
    Query(BatchId, Duration),
    /// Shows whether the link leads to the server.
    LinkProbe,
}

struct Driver {
    device: DeviceId,
    scheduler: Scheduler,
    breaker: Breaker,
    config: Config,
    queue: Queue,
    link: LinkWatch,
    under_way: BTreeMap<RequestId, UnderWay>,
    /// When the step under way is done.
    ready: Duration,
    finished: bool,
    rng: fastrand::Rng,
}

/// Runs the policy on every device, until no record is left, the horizon is reached, or it waits for nothing that could
/// happen.
pub(crate) fn run(world: &mut World, max_in_flight: usize) {
    let devices = 0..world.devices.len();
    let drivers = devices.map(|device| Driver::new(world, device, max_in_flight)).collect();
    run_clients(world, drivers);
}

impl Client for Driver {
    fn act(&mut self, world: &mut World) {
        let now = world.now;
        if now < self.ready {
            return world.wake_at(self.device, self.ready);
        }
        if world.devices[self.device].is_done() {
            self.finished = true;
            return;
        }
        if let Some(due) = self.link.take_due(now) {
            self.try_link(world, due);
        }
        // A step was made, or the probe of a closed link is under way.
        if now < self.ready {
            return world.wake_at(self.device, self.ready);
        }
        match self.with_view(world, |scheduler, view| scheduler.next_action(view)) {
            Action::Rest { until, .. } => return self.rest(world, until),
            action => self.start_action(world, action),
        }
        self.end_step(world);
        world.wake_at(self.device, self.ready);
    }

    fn handle(&mut self, world: &mut World, notice: Notice) {
        let (request, ended) = match notice {
            Notice::Woken => return,
            Notice::BatchEnded(request, exchange) => (request, Ok(exchange)),
            Notice::QueryEnded(request, reply) => (request, Err(reply)),
        };
        let Some(under_way) = self.under_way.remove(&request) else { return };
        let now = world.now;
        match (under_way, ended) {
            (UnderWay::Batch(id, sent_at), Ok(exchange)) => self.batch_ended(world, id, sent_at, exchange),
            (UnderWay::Canary(id, sent_at), Ok(exchange)) => {
                self.note_exchange(world, id, sent_at, &exchange);
                self.with_view(world, |scheduler, view| {
                    scheduler.on_canary_response(view, id, &exchange.verdict);
                });
            }
            (UnderWay::Query(id, sent_at), Err(reply)) => self.query_ended(world, id, sent_at, &reply),
            (UnderWay::LinkProbe, _) => {
                if self.link.probe_ended(&mut self.rng) {
                    self.link_restored(now);
                }
            }
            (UnderWay::Batch(..) | UnderWay::Canary(..) | UnderWay::Query(..), _) => {}
        }
        self.end_step(world);
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Driver {
    fn new(world: &mut World, device: DeviceId, max_in_flight: usize) -> Self {
        let mut rng = world.rng.fork();
        let mut config = Config::default();
        config.server.url = "https://sync.example".into();
        config.server.request_timeout.0 = world.configured_limit();
        config.batch.max_in_flight = max_in_flight;
        Self {
            device,
            scheduler: Scheduler::new(Vec::new(), Learned::default(), rng.fork()),
            breaker: Breaker::default(),
            config,
            queue: Queue::new(device),
            link: LinkWatch::new(),
            under_way: BTreeMap::new(),
            ready: Duration::ZERO,
            finished: false,
            rng,
        }
    }

    /// Nothing can be started until something happens, or the time comes.
    fn rest(&mut self, world: &mut World, until: Option<Duration>) {
        let next = if self.link.is_closed() {
            self.link.next_try(world, self.device)
        } else {
            let next = until.into_iter().chain(world.next_arrival(self.device)).min();
            next.map(|next| world.now.max(next) + STEP_DURATION)
        };
        match next {
            Some(next) => world.wake_at(self.device, next),
            None => self.finished = self.under_way.is_empty(),
        }
    }

    fn end_step(&mut self, world: &World) {
        self.ready = world.now + STEP_DURATION;
    }

    fn try_link(&mut self, world: &mut World, due: Due) {
        match due {
            Due::LinkUp => {
                self.link.link_up();
                self.link_restored(world.now);
            }
            Due::Reopen => {
                if self.link.reopen() {
                    self.link_restored(world.now);
                }
            }
            Due::Probe => {
                let id = world.new_batch_id();
                let request = world.start_query(self.device, id);
                self.under_way.insert(request, UnderWay::LinkProbe);
                return;
            }
        }
        self.end_step(world);
    }

    fn link_restored(&mut self, now: Duration) {
        self.scheduler.link_restored(now);
        self.breaker.try_now(now);
    }

    fn with_view<T>(&mut self, world: &World, decide: impl FnOnce(&mut Scheduler, &View<'_>) -> T) -> T {
        let (backlog, wall_ms) = (self.queue.backlog(world), wall_ms(world.now));
        let view = View {
            now: world.now,
            wall_ms,
            steady_ms: wall_ms,
            config: &self.config,
            backlog: &backlog,
            link: self.link.state(),
            deferral: None,
            breaker: self.breaker.state(),
        };
        decide(&mut self.scheduler, &view)
    }

    fn start_action(&mut self, world: &mut World, action: Action) {
        match action {
            Action::Rest { .. } => {}
            Action::Claim(order) => {
                if let Some(id) = self.queue.claim(world, wall_ms(world.now), order) {
                    self.start_upload(world, id);
                }
            }
            Action::Send(id, _) => self.start_upload(world, id),
            Action::QueryOutcome(id) => {
                self.scheduler.start_query(world.now);
                let request = world.start_query(self.device, id);
                self.under_way.insert(request, UnderWay::Query(id, world.now));
            }
            Action::Quarantine(id) => {
                let disposition =
                    self.with_view(world, |scheduler, view| scheduler.quarantine_isolated(view, id));
                self.settle_batch(world, id, disposition);
            }
            Action::Divide(id) => {
                let disposition = self.with_view(world, |scheduler, view| scheduler.divide_batch(view, id));
                self.settle_batch(world, id, disposition);
            }
            Action::SendCanary(_) => self.start_canary(world),
        }
    }

    fn start_upload(&mut self, world: &mut World, id: BatchId) {
        let Some((open, members)) = self.queue.dispatch(id) else { return self.scheduler.forget_batch(id) };
        let mut load = Load::default();
        for record in members.iter().map(|member| &world.records[*member]) {
            load.add_record(RECORD_TYPES[record.kind], record.bytes);
        }
        self.with_view(world, |scheduler, view| scheduler.start_send(view, &open, load));
        if self.breaker.permit(world.now).is_err() {
            let disposition = self.with_view(world, |scheduler, view| scheduler.defer_send(view, id));
            return self.settle_batch(world, id, disposition);
        }
        self.queue.count_attempt(&members);
        let deadline = self.scheduler.response_deadline(&self.config, id);
        let request = self.post(world, id, &members, deadline);
        self.under_way.insert(request, UnderWay::Batch(id, world.now));
    }

    fn post(
        &self,
        world: &mut World,
        id: BatchId,
        members: &[usize],
        deadline: Option<Duration>,
    ) -> RequestId {
        let deadline = deadline.unwrap_or(self.config.server.request_timeout.0 + RESPONSE_GRACE);
        world.start_post(self.device, id, members, Some(deadline))
    }

    /// Sends a record once more that the server has.
    fn start_canary(&mut self, world: &mut World) {
        if self.breaker.permit(world.now).is_err() {
            return;
        }
        let Some(sample) = self.queue.canary else { return };
        let id = world.new_batch_id();
        self.scheduler.start_canary(world.now, id);
        let request = self.post(world, id, &[sample], None);
        self.under_way.insert(request, UnderWay::Canary(id, world.now));
    }

    fn batch_ended(&mut self, world: &mut World, id: BatchId, sent_at: Duration, exchange: Exchange) {
        self.note_exchange(world, id, sent_at, &exchange);
        let Exchange { verdict, status, elapsed, sending } = exchange;
        let error = LastError {
            class: verdict.class().into(),
            http_status: status,
            code: None,
            message: String::new(),
            field: None,
            at: wall_ms(world.now),
        };
        let result = UploadResult {
            verdict,
            error,
            elapsed,
            is_replayed: false,
            hints: None,
            network: Network { sent: sending, ..Network::default() },
        };
        let disposition = self.with_view(world, |scheduler, view| scheduler.on_response(view, id, &result));
        self.settle_batch(world, id, disposition);
        let in_flight = self.with_view(world, |scheduler, view| scheduler.in_flight(view));
        world.note_window(self.device, in_flight.limit, in_flight.rule.name());
    }

    /// What the end of a request shows about the server and the link.
    fn note_exchange(&mut self, world: &mut World, id: BatchId, sent_at: Duration, exchange: &Exchange) {
        let effect = exchange.verdict.effect();
        self.breaker.record_response(world.now, sent_at, effect, &self.config.breaker, &mut self.rng);
        self.link.request_ended(world, self.device);
        match exchange.verdict {
            Verdict::Intercepted if self.scheduler.is_denied_alone(id) => {}
            Verdict::Intercepted => self.link.record_evidence(Evidence::Intercepted, &mut self.rng),
            _ if exchange.status.is_some() => {
                self.link.record_evidence(Evidence::ServerResponded, &mut self.rng);
            }
            _ => {}
        }
    }

    fn query_ended(&mut self, world: &mut World, id: BatchId, sent_at: Duration, reply: &OutcomeReply) {
        let effect = reply.effect();
        self.breaker.record_query(world.now, sent_at, effect, &self.config.breaker, &mut self.rng);
        self.link.request_ended(world, self.device);
        if let Some(disposition) =
            self.with_view(world, |scheduler, view| scheduler.on_outcome_reply(view, id, reply))
        {
            self.settle_batch(world, id, disposition);
        }
    }

    fn settle_batch(&mut self, world: &mut World, id: BatchId, disposition: Disposition) {
        let steady_ms = wall_ms(world.now);
        let mut retry = Retry { config: &self.config, steady_ms, rng: &mut self.rng };
        let opened = self.queue.settle(world, id, disposition, &mut retry);
        if self.queue.canary.is_some() {
            self.scheduler.canary_confirmed();
        }
        // One by one, as the store reports them.
        for batch in opened {
            self.scheduler.track_batches(world.now, vec![batch]);
        }
    }
}

fn wall_ms(now: Duration) -> u64 {
    EPOCH_MS + u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
