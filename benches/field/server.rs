//! The server, and the gateway in front of it, which responds 504 after its time limit. The server still completes
//! such a batch, which makes the protocol difficult.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use fieldsync::model::BatchId;
use fieldsync::protocol::wire::RecordStatus;

use crate::chance;
use crate::events::RequestId;
use crate::record::{Denial, Fault, Record};
use crate::server_spec::{LookUps, OutageKind, ServerSpec};
use crate::workers::{Work, Workers};

/// Seconds to repeat a saved response, and to process an outcome query.
const REPLAY_SECONDS: f64 = 0.1;
const QUERY_SECONDS: f64 = 0.05;
/// How many time limits a batch with a hanging record takes.
const HANG_TIME_LIMITS: u32 = 3;
/// A refusal needs no more than this share of the start-up cost.
const REFUSAL_COST_SHARE: f64 = 0.2;

pub(crate) type Results = Vec<(usize, RecordStatus)>;

#[derive(Debug)]
pub(crate) enum Reply {
    Results(Results),
    TimedOut,
    Unavailable,
    Throttled(Duration),
    Processing,
    Refused,
    Denied(Denial),
}

/// The response of the gateway, and its time.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) reply: Reply,
    pub(crate) at: Duration,
    /// A faulty record made the whole batch fail.
    pub(crate) faulty: bool,
}

#[derive(Debug)]
pub(crate) enum Known {
    Completed(Results),
    Processing,
    Unknown,
    Unsupported,
    Failed,
    /// The server asked to come back later.
    Throttled,
    /// The query did not reach the server, or was denied.
    Unreachable,
}

/// What becomes of a batch that arrived.
#[derive(Debug)]
pub(crate) enum Received {
    /// It gets this response.
    Reply(Served),
    /// It is worked on; the gateway gives up on it then.
    Accepted { times_out: Duration },
}

/// A batch that the server accepted.
struct Job {
    members: Vec<usize>,
    /// The request that waits for its results, if the response is not lost by bad luck.
    request: Option<RequestId>,
    state: JobState,
}

enum JobState {
    /// A worker is on it, or will be. With the results, once it is.
    UnderWay(Results),
    Done(Results),
    Hangs {
        until: Duration,
    },
}

pub(crate) struct Server {
    pub(crate) spec: ServerSpec,
    rng: Rng,
    workers: Workers,
    /// For the batches of other users.
    others_rng: Option<Rng>,
    jobs: HashMap<BatchId, Job>,
    stored: Vec<Option<Duration>>,
    /// The current window of the quota, and the requests in it.
    counted: (u64, u32),
    /// Batches under way that count towards the most at once.
    large_under_way: usize,
}

impl Server {
    pub(crate) fn new(spec: ServerSpec, records: usize, mut rng: Rng) -> Self {
        let capacity = &spec.capacity;
        let others_rng = capacity.others.map(|_| rng.fork());
        let workers = Workers::new(capacity.sharing, capacity.workers_at(Duration::ZERO));
        Self {
            spec,
            rng,
            workers,
            others_rng,
            jobs: HashMap::new(),
            stored: vec![None; records],
            counted: (0, 0),
            large_under_way: 0,
        }
    }

    pub(crate) fn has(&self, record: usize) -> bool {
        self.stored[record].is_some()
    }

    /// Handles a batch that arrived completely.
    pub(crate) fn receive(
        &mut self,
        at: Duration,
        request: RequestId,
        id: BatchId,
        members: &[usize],
        records: &[Record],
    ) -> Received {
        let limit = at + self.spec.limit;
        let say = |reply, at| Received::Reply(Served { reply, at, faulty: false });
        match self.spec.outage(at).map(|outage| outage.kind) {
            Some(OutageKind::TimesOut) => return say(Reply::TimedOut, limit),
            Some(OutageKind::Unavailable) => return say(Reply::Unavailable, at),
            None => {}
        }
        if let Some(wait) = self.over_quota(at) {
            return say(Reply::Throttled(wait), at);
        }
        match self.jobs.get(&id).map(|job| &job.state) {
            Some(JobState::Done(results)) => {
                return say(Reply::Results(results.clone()), at + Duration::from_secs_f64(REPLAY_SECONDS));
            }
            Some(JobState::Hangs { until }) if *until <= at => {}
            Some(_) => return say(Reply::Processing, at),
            None => {}
        }
        if let Some(wait) = self.too_many_at_once(members) {
            return say(Reply::Throttled(wait), at);
        }
        let unlucky = self.spec.random_504 > 0.0 && self.rng.f64() < self.spec.random_504;
        if unlucky && self.rng.bool() {
            return say(Reply::TimedOut, limit);
        }
        let refused_at = at + Duration::from_secs_f64(REFUSAL_COST_SHARE * self.spec.start);
        if self.spec.random_400 > 0.0 && self.rng.f64() < self.spec.random_400 {
            return say(Reply::Refused, refused_at);
        }
        let fail = |reply, at| Received::Reply(Served { reply, at, faulty: true });
        let faults = || members.iter().filter_map(|member| records[*member].fault);
        for fault in faults() {
            match fault {
                Fault::Denied(denial) => return fail(Reply::Denied(denial), at),
                Fault::Refused => return fail(Reply::Refused, refused_at),
                Fault::Hangs | Fault::Rejected => {}
            }
        }
        let members = members.to_vec();
        if faults().any(|fault| fault == Fault::Hangs) {
            let state = JobState::Hangs { until: at + self.spec.limit * HANG_TIME_LIMITS };
            self.jobs.insert(id, Job { members, request: None, state });
            return fail(Reply::TimedOut, limit);
        }
        self.large_under_way += usize::from(self.counts_at_once(&members));
        let request = (!unlucky).then_some(request);
        self.jobs.insert(id, Job { members, request, state: JobState::UnderWay(Results::new()) });
        self.workers.queue(Work::Batch(id));
        Received::Accepted { times_out: limit }
    }

    fn counts_at_once(&self, members: &[usize]) -> bool {
        self.spec.capacity.at_once.is_some_and(|most| members.len() > most.records_above)
    }

    /// How long to wait, if too many batches are under way for this one.
    fn too_many_at_once(&self, members: &[usize]) -> Option<Duration> {
        let most = self.spec.capacity.at_once?;
        (self.counts_at_once(members) && self.large_under_way >= most.batches).then_some(most.retry_after)
    }

    /// Gives work to the free workers. Returns when the first is done, if no more comes.
    pub(crate) fn start_work(&mut self, now: Duration, records: &[Record]) -> Option<Duration> {
        while let Some(work) = self.workers.take_waiting() {
            let seconds = match work {
                Work::Other(seconds) => seconds,
                Work::Batch(id) => self.work(now, id, records),
            };
            self.workers.start(now, work, seconds);
        }
        self.workers.next_done()
    }

    /// Starts a batch. Returns its seconds.
    fn work(&mut self, now: Duration, id: BatchId, records: &[Record]) -> f64 {
        let stored = &self.stored;
        let Some(job) = self.jobs.get_mut(&id) else { return 0.0 };
        let new = job.members.iter().filter(|member| stored[**member].is_none());
        let mean = self.spec.mean(now, new.map(|member| &records[*member]));
        let noise = (self.spec.sigma * chance::gaussian(&mut self.rng)).exp();
        let tail =
            self.spec.tail.filter(|tail| self.rng.f64() < tail.probability).map_or(1.0, |tail| tail.factor);
        let status = |member: usize| match records[member].fault {
            Some(Fault::Rejected) => RecordStatus::Rejected,
            _ if stored[member].is_some() => RecordStatus::Duplicate,
            _ => RecordStatus::Applied,
        };
        job.state = JobState::UnderWay(job.members.iter().map(|member| (*member, status(*member))).collect());
        mean * noise * tail
    }

    /// Ends the work that is done. Returns the results of the batches whose clients wait for them.
    pub(crate) fn finish_work(&mut self, now: Duration) -> Vec<(RequestId, Results)> {
        let mut replies = Vec::new();
        for work in self.workers.take_done(now) {
            let Work::Batch(id) = work else { continue };
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let JobState::UnderWay(results) = &job.state else { continue };
            let results = results.clone();
            for (member, _) in results.iter().filter(|(_, status)| *status == RecordStatus::Applied) {
                self.stored[*member].get_or_insert(now);
            }
            job.state = JobState::Done(results.clone());
            replies.extend(job.request.map(|request| (request, results)));
            let is_large = self.jobs.get(&id).is_some_and(|job| self.counts_at_once(&job.members));
            self.large_under_way -= usize::from(is_large);
        }
        replies
    }

    pub(crate) fn change_workers(&mut self, now: Duration) {
        self.workers.set_count(self.spec.capacity.workers_at(now));
    }

    /// Another user sends a batch. Returns when the next one does; none without other users.
    pub(crate) fn others_send(&mut self, now: Duration) -> Option<Duration> {
        let (others, rng) = (self.spec.capacity.others?, self.others_rng.as_mut()?);
        // Every second arrival of the peak's rate is skipped on average, so that the rate follows the wave.
        if rng.f64() < others.wave(now) {
            self.workers.queue(Work::Other(chance::exponential(others.seconds, rng)));
        }
        Some(now + Duration::from_secs_f64(chance::exponential(others.seconds / others.busy_most, rng)))
    }

    /// Counts a request. Returns the rest of the window if there were too many.
    fn over_quota(&mut self, at: Duration) -> Option<Duration> {
        let quota = self.spec.quota?;
        let window = at.as_secs() / quota.window.as_secs();
        if self.counted.0 != window {
            self.counted = (window, 0);
        }
        if self.counted.1 >= quota.requests {
            let end = quota.window.as_secs() * (window + 1);
            return Some(Duration::from_secs(end).saturating_sub(at));
        }
        self.counted.1 += 1;
        None
    }

    /// The reply to an outcome query, and when it is sent.
    pub(crate) fn look_up(&self, at: Duration, id: BatchId) -> (Known, Duration) {
        match self.spec.outage(at).map(|outage| outage.kind) {
            Some(OutageKind::TimesOut) => return (Known::Failed, at + self.spec.limit),
            Some(OutageKind::Unavailable) => return (Known::Throttled, at),
            None => {}
        }
        let known = match self.jobs.get(&id).map(|job| &job.state) {
            _ if self.spec.look_ups != LookUps::Answered => match self.spec.look_ups {
                LookUps::Failing => Known::Failed,
                LookUps::Denied => Known::Unreachable,
                LookUps::Throttled => Known::Throttled,
                LookUps::Answered | LookUps::Missing => Known::Unsupported,
            },
            Some(JobState::Done(results)) => Known::Completed(results.clone()),
            Some(JobState::Hangs { until }) if *until <= at => Known::Unknown,
            Some(_) => Known::Processing,
            None => Known::Unknown,
        };
        (known, at + Duration::from_secs_f64(QUERY_SECONDS))
    }
}
