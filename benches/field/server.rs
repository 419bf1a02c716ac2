//! The server, and the gateway in front of it, which responds 504 after its time limit. The server still completes
//! such a batch, which makes the protocol difficult.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use fieldsync::model::BatchId;
use fieldsync::protocol::wire::RecordStatus;

use crate::chance;
use crate::record::{Denial, Fault, Record};
use crate::server_spec::{LookUps, OutageKind, ServerSpec};

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

enum Job {
    Done { at: Duration, results: Results },
    Hangs { until: Duration },
}

pub(crate) struct Server {
    pub(crate) spec: ServerSpec,
    rng: Rng,
    jobs: HashMap<BatchId, Job>,
    stored: Vec<Option<Duration>>,
    /// The current window of the quota, and the requests in it.
    counted: (u64, u32),
}

impl Server {
    pub(crate) fn new(spec: ServerSpec, records: usize, rng: Rng) -> Self {
        Self { spec, rng, jobs: HashMap::new(), stored: vec![None; records], counted: (0, 0) }
    }

    pub(crate) fn has(&self, record: usize, at: Duration) -> bool {
        self.stored[record].is_some_and(|stored| stored <= at)
    }

    /// Whether the server has the record, or will have it after a batch in progress.
    pub(crate) fn stores(&self, record: usize) -> bool {
        self.stored[record].is_some()
    }

    /// Handles a batch that arrived completely.
    pub(crate) fn receive(
        &mut self,
        at: Duration,
        id: BatchId,
        members: &[usize],
        records: &[Record],
    ) -> Served {
        let limit = at + self.spec.limit;
        let say = |reply, at| Served { reply, at, faulty: false };
        match self.spec.outage(at).map(|outage| outage.kind) {
            Some(OutageKind::TimesOut) => return say(Reply::TimedOut, limit),
            Some(OutageKind::Unavailable) => return say(Reply::Unavailable, at),
            None => {}
        }
        if let Some(wait) = self.over_quota(at) {
            return say(Reply::Throttled(wait), at);
        }
        match self.jobs.get(&id) {
            Some(Job::Done { at: done, results }) if *done <= at => {
                return say(Reply::Results(results.clone()), at + Duration::from_secs_f64(REPLAY_SECONDS));
            }
            Some(Job::Hangs { until }) if *until <= at => {}
            Some(_) => return say(Reply::Processing, at),
            None => {}
        }
        let unlucky = self.spec.random_504 > 0.0 && self.rng.f64() < self.spec.random_504;
        if unlucky && self.rng.bool() {
            return say(Reply::TimedOut, limit);
        }
        let refused_at = at + Duration::from_secs_f64(REFUSAL_COST_SHARE * self.spec.start);
        if self.spec.random_400 > 0.0 && self.rng.f64() < self.spec.random_400 {
            return say(Reply::Refused, refused_at);
        }
        let faults = || members.iter().filter_map(|member| records[*member].fault);
        for fault in faults() {
            match fault {
                Fault::Denied(denial) => return Served { reply: Reply::Denied(denial), at, faulty: true },
                Fault::Refused => return Served { reply: Reply::Refused, at: refused_at, faulty: true },
                Fault::Hangs | Fault::Rejected => {}
            }
        }
        if faults().any(|fault| fault == Fault::Hangs) {
            self.jobs.insert(id, Job::Hangs { until: at + self.spec.limit * HANG_TIME_LIMITS });
            return Served { reply: Reply::TimedOut, at: limit, faulty: true };
        }
        let (done, results) = self.work(at, members, records);
        self.jobs.insert(id, Job::Done { at: done, results: results.clone() });
        if unlucky || done > limit {
            return say(Reply::TimedOut, limit);
        }
        say(Reply::Results(results), done)
    }

    fn work(&mut self, at: Duration, members: &[usize], records: &[Record]) -> (Duration, Results) {
        let new: Vec<usize> = members.iter().copied().filter(|member| !self.has(*member, at)).collect();
        let mean = self.spec.mean(at, new.iter().map(|member| &records[*member]));
        let noise = (self.spec.sigma * chance::gaussian(&mut self.rng)).exp();
        let tail =
            self.spec.tail.filter(|tail| self.rng.f64() < tail.probability).map_or(1.0, |tail| tail.factor);
        let done = at + Duration::from_secs_f64(mean * noise * tail);
        let mut results = Results::new();
        for member in members {
            let status = if records[*member].fault == Some(Fault::Rejected) {
                RecordStatus::Rejected
            } else if self.has(*member, at) {
                RecordStatus::Duplicate
            } else {
                let stored = self.stored[*member].map_or(done, |before| before.min(done));
                self.stored[*member] = Some(stored);
                RecordStatus::Applied
            };
            results.push((*member, status));
        }
        (done, results)
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
        let known = match self.jobs.get(&id) {
            _ if self.spec.look_ups != LookUps::Answered => match self.spec.look_ups {
                LookUps::Failing => Known::Failed,
                LookUps::Denied => Known::Unreachable,
                LookUps::Throttled => Known::Throttled,
                LookUps::Answered | LookUps::Missing => Known::Unsupported,
            },
            Some(Job::Done { at: done, results }) if *done <= at => Known::Completed(results.clone()),
            Some(Job::Hangs { until }) if *until <= at => Known::Unknown,
            Some(_) => Known::Processing,
            None => Known::Unknown,
        };
        (known, at + Duration::from_secs_f64(QUERY_SECONDS))
    }
}
