//! The client that knows what no real client can know: how long the server takes, which records are faulty, when an
//! outage or the link ends, and how many batches at once are best. The other clients are compared with it.

use std::time::Duration;

use fieldsync::model::BatchId;
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::verdict::Verdict;

use crate::client::{Client, run_clients};
use crate::events::{DeviceId, RequestId};
use crate::requests::Exchange;
use crate::server_spec::LookUps;
use crate::world::{Notice, World};

const BATCH_RECORDS_MAX: usize = 1000;
const BATCH_BYTES_MAX: u64 = 4 << 20;
/// The share of the time limit that a batch may take, and the share of batches that may be late.
const TIME_LIMIT_SHARE: f64 = 0.75;
const LATE_SHARE_MAX: f64 = 0.01;
/// The margin before the link goes down, in standard deviations.
const LINK_END_DEVIATIONS: f64 = 2.33;
const QUERY_INTERVAL: Duration = Duration::from_secs(1);

/// How it sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Batches at once.
    pub(crate) window: usize,
    /// No more batches than the server has workers at the time.
    pub(crate) follows_workers: bool,
    /// The share of the usual part of the time limit that a batch may take.
    pub(crate) share: f64,
}

impl Plan {
    pub(crate) const SERIAL: Self = Self { window: 1, follows_workers: false, share: 1.0 };
}

/// A batch that it took out of the queue.
#[derive(Debug)]
struct Batch {
    id: BatchId,
    members: Vec<usize>,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Sending(RequestId),
    Querying(RequestId),
    SendsAt(Duration),
    QueriesAt(Duration),
}

pub(crate) struct Oracle {
    device: DeviceId,
    plan: Plan,
    batches: Vec<Batch>,
    finished: bool,
}

pub(crate) fn run(world: &mut World) {
    run_with(world, Plan::SERIAL);
}

/// Sends as planned, from all devices.
pub(crate) fn run_with(world: &mut World, plan: Plan) {
    let devices = 0..world.devices.len();
    let oracle = |device| Oracle { device, plan, batches: Vec::new(), finished: false };
    run_clients(world, devices.map(oracle).collect());
}

impl Client for Oracle {
    fn act(&mut self, world: &mut World) {
        self.repeat_due(world);
        let mut wake = self.next_due();
        while self.batches.len() < self.window(world) {
            match self.next_batch(world) {
                Ok((id, members)) => {
                    let step = Step::Sending(world.start_post(self.device, id, &members, None));
                    self.batches.push(Batch { id, members, step });
                }
                Err(Some(later)) => {
                    wake = wake.into_iter().chain([later]).min();
                    break;
                }
                Err(None) => {
                    self.finished = self.batches.is_empty();
                    break;
                }
            }
        }
        if let Some(wake) = wake {
            world.wake_at(self.device, wake);
        }
    }

    fn handle(&mut self, world: &mut World, notice: Notice) {
        let step = match &notice {
            Notice::Woken => return,
            Notice::BatchEnded(request, _) => Step::Sending(*request),
            Notice::QueryEnded(request, _) => Step::Querying(*request),
        };
        let Some(index) = self.batches.iter().position(|batch| batch.step == step) else { return };
        let mut batch = self.batches.swap_remove(index);
        let next = match notice {
            Notice::BatchEnded(_, exchange) => on_response(world, &exchange),
            Notice::QueryEnded(_, reply) => self.on_reply(world, &reply),
            Notice::Woken => return,
        };
        match next {
            Next::Settled => {}
            Next::PutBack => world.devices[self.device].put_back(&batch.members),
            Next::Step(step) => {
                batch.step = step;
                self.batches.push(batch);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Oracle {
    fn window(&self, world: &World) -> usize {
        if self.plan.follows_workers {
            return self.plan.window.min(world.spec().capacity.workers_at(world.now));
        }
        self.plan.window
    }

    fn next_due(&self) -> Option<Duration> {
        let due = |batch: &Batch| match batch.step {
            Step::SendsAt(due) | Step::QueriesAt(due) => Some(due),
            Step::Sending(_) | Step::Querying(_) => None,
        };
        self.batches.iter().filter_map(due).min()
    }

    fn repeat_due(&mut self, world: &mut World) {
        let now = world.now;
        for batch in &mut self.batches {
            match batch.step {
                Step::SendsAt(due) if due <= now => {
                    batch.step = Step::Sending(world.start_post(self.device, batch.id, &batch.members, None));
                }
                Step::QueriesAt(due) if due <= now => {
                    batch.step = Step::Querying(world.start_query(self.device, batch.id));
                }
                _ => {}
            }
        }
    }

    /// Takes the next batch, or says when to try again; never, if nothing is left.
    fn next_batch(&self, world: &mut World) -> Result<(BatchId, Vec<usize>), Option<Duration>> {
        quarantine_faulty(world, self.device);
        if world.devices[self.device].waiting().is_empty() {
            return Err(world.next_arrival(self.device));
        }
        if let Some(until) = world.spec().outage(world.now).map(|outage| outage.until) {
            return Err(Some(until));
        }
        let up = world.link_up(self.device);
        if world.now < up.from {
            return Err(Some(up.from));
        }
        let count = choose_size(world, self.device, self.plan, self.window(world));
        if count == 0 {
            return Err(Some(up.until));
        }
        let members = world.devices[self.device].take_waiting(count);
        Ok((world.new_batch_id(), members))
    }

    fn on_reply(&self, world: &mut World, reply: &OutcomeReply) -> Next {
        let soon = world.now + QUERY_INTERVAL;
        match reply {
            OutcomeReply::Completed(results) => {
                world.settle_by(results);
                Next::Settled
            }
            OutcomeReply::UnknownBatch => Next::PutBack,
            OutcomeReply::Unsupported => Next::Step(Step::SendsAt(soon)),
            OutcomeReply::Processing { .. } => Next::Step(Step::QueriesAt(soon)),
            OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable => {
                let up = world.link_up(self.device);
                Next::Step(Step::QueriesAt(up.from.max(soon)))
            }
        }
    }
}

/// How a batch continues.
enum Next {
    Settled,
    PutBack,
    Step(Step),
}

fn on_response(world: &mut World, exchange: &Exchange) -> Next {
    let now = world.now;
    match &exchange.verdict {
        Verdict::Completed(results) => {
            world.settle_by(results);
            Next::Settled
        }
        Verdict::Ambiguous(_) => Next::Step(Step::QueriesAt(now)),
        Verdict::StillProcessing { .. } => Next::Step(Step::SendsAt(now + QUERY_INTERVAL)),
        Verdict::Throttled { retry_after: Some(wait), .. } => Next::Step(Step::SendsAt(now + *wait)),
        _ => Next::PutBack,
    }
}

fn quarantine_faulty(world: &mut World, device: DeviceId) {
    let faulty = |member: &usize| world.records[*member].fault.is_some();
    let faulty: Vec<usize> = world.devices[device].waiting().iter().copied().filter(faulty).collect();
    for member in faulty {
        world.quarantine(member);
    }
}

/// The safe size with the least overhead per record for each of `window` batches; 0 if the link goes down too soon.
fn choose_size(world: &mut World, device: DeviceId, plan: Plan, window: usize) -> usize {
    let (now, up, rtt) = (world.now, world.link_up(device), world.rtt(device));
    let spec = world.spec();
    let slowdown = spec.capacity.slowdown(now, window * world.devices.len());
    let limit = spec.limit.as_secs_f64();
    let left = up.until.saturating_sub(now).as_secs_f64();
    let most = window * BATCH_RECORDS_MAX;
    let waiting: Vec<usize> = world.devices[device].waiting().iter().copied().take(most).collect();
    // At the end, every worker gets a part.
    let count_max = waiting.len().div_ceil(window).min(BATCH_RECORDS_MAX);
    // The server continues without the link: the outcome query replaces a lost response.
    let response_time = |mean: f64| {
        if spec.look_ups == LookUps::Answered { 0.0 } else { mean * (LINK_END_DEVIATIONS * spec.sigma).exp() }
    };
    let mut best = (0, f64::INFINITY);
    for count in 1..=count_max {
        let alone = spec.mean(now, waiting[..count].iter().map(|member| &world.records[*member]));
        let mean = alone * slowdown;
        if mean > limit && count > 1 {
            break;
        }
        let bytes = world.bytes(&waiting[..count]);
        let upload = up.upload(bytes).as_secs_f64();
        let safe = mean <= plan.share * TIME_LIMIT_SHARE * limit
            && spec.late(mean, limit) <= LATE_SHARE_MAX
            && bytes <= BATCH_BYTES_MAX;
        let lasts = upload + response_time(mean) + 2.0 * rtt.as_secs_f64() < left;
        let overhead = (spec.overhead(now, count) + 2.0 * rtt.as_secs_f64()) / count as f64;
        // A record that is not safe in any size is sent alone.
        if (safe || count == 1) && lasts && overhead < best.1 {
            best = (count, overhead);
        }
    }
    best.0
}
