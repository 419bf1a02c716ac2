//! The simulated field: a clock that only requests and waits advance, a queue, the link, and the server. A client
//! drives it, one request at a time, and its requests are counted.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use fieldsync::model::{BatchId, RecordId};
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::verdict::{Ambiguity, Verdict};
use fieldsync::protocol::wire::{ErrorDetail, RecordResult, RecordStatus};
use uuid::Uuid;

use crate::link::{Link, Up};
use crate::record::{Denial, Record};
use crate::scene::Scene;
use crate::server::{Known, Reply, Results, Served, Server};
use crate::server_spec::ServerSpec;
use crate::tally::Tally;

/// How long a request takes to fail on a link that is down.
const NO_ROUTE_DELAY: Duration = Duration::from_millis(100);
/// How long a client waits for the reply to an outcome query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait that a server asks for while it is processing the batch.
const PROCESSING_RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Open,
    Synced(Duration),
    Quarantined(Duration),
}

/// The result of a request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) verdict: Verdict,
    pub(crate) status: Option<u16>,
    /// From the start to the end.
    pub(crate) elapsed: Duration,
    /// The part of it until the body was sent completely; none if it was not.
    pub(crate) sending: Option<Duration>,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) records: Vec<Record>,
    pub(crate) fates: Vec<Fate>,
    pub(crate) server: Server,
    pub(crate) tally: Tally,
    /// The client whose requests are traced.
    pub(crate) trace: Option<&'static str>,
    link: Link,
    horizon: Duration,
    /// Records that the client has not taken yet.
    waiting: BTreeSet<usize>,
    arrived: usize,
    open_records: usize,
    open_bytes: u64,
}

impl World {
    /// The same seed gives every client the same records and the same link.
    pub(crate) fn new(scene: &Scene, seed: u64, horizon: Duration) -> Self {
        let mut rng = Rng::with_seed(seed);
        let records = (scene.records)(&mut rng.fork());
        let link = Link::new(scene.link, rng.fork());
        let server = Server::new(scene.server.clone(), records.len(), rng.fork());
        let mut world = Self {
            now: Duration::ZERO,
            fates: vec![Fate::Open; records.len()],
            tally: Tally::new(records.len()),
            trace: None,
            waiting: BTreeSet::new(),
            arrived: 0,
            open_records: 0,
            open_bytes: 0,
            rng,
            records,
            server,
            link,
            horizon,
        };
        world.wait_until(Duration::ZERO);
        world
    }

    pub(crate) fn spec(&self) -> &ServerSpec {
        &self.server.spec
    }

    /// The time limit as configured on the device.
    pub(crate) fn configured_limit(&self) -> Duration {
        self.spec().configured.unwrap_or(self.spec().limit)
    }

    /// Whether the simulation is over.
    pub(crate) fn is_past_horizon(&self) -> bool {
        self.now >= self.horizon
    }

    /// Nothing is left to do, now or later.
    pub(crate) fn is_done(&self) -> bool {
        self.open_records == 0 && self.arrived == self.records.len()
    }

    /// The duration of the run, at most until the horizon.
    pub(crate) fn measured_time(&self) -> Duration {
        self.now.min(self.horizon)
    }

    // Time.

    pub(crate) fn wait_until(&mut self, time: Duration) {
        self.now = self.now.max(time);
        while let Some(record) = self.records.get(self.arrived).filter(|record| record.arrives <= self.now) {
            self.open_bytes += record.bytes;
            self.open_records += 1;
            self.waiting.insert(self.arrived);
            self.arrived += 1;
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.wait_until(self.now + time);
    }

    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.records.get(self.arrived).map(|record| record.arrives)
    }

    // The queue.

    /// Records that are neither synced nor quarantined, and their bytes.
    pub(crate) fn open_totals(&self) -> (usize, u64) {
        (self.open_records, self.open_bytes)
    }

    pub(crate) fn waiting(&self) -> &BTreeSet<usize> {
        &self.waiting
    }

    /// Takes the first `count` records out of the queue.
    pub(crate) fn take_waiting(&mut self, count: usize) -> Vec<usize> {
        let members: Vec<usize> = self.waiting.iter().copied().take(count).collect();
        self.take_these(&members);
        members
    }

    pub(crate) fn take_these(&mut self, members: &[usize]) {
        for member in members {
            self.waiting.remove(member);
        }
    }

    pub(crate) fn put_back(&mut self, members: &[usize]) {
        self.waiting.extend(members);
    }

    pub(crate) fn mark_synced(&mut self, member: usize) {
        self.settle(member, Fate::Synced(self.now));
    }

    pub(crate) fn quarantine(&mut self, member: usize) {
        self.settle(member, Fate::Quarantined(self.now));
    }

    /// Settles the records that have a final result.
    pub(crate) fn settle_by(&mut self, results: &[RecordResult]) {
        for result in results {
            match result.status {
                RecordStatus::Applied | RecordStatus::Duplicate => self.mark_synced(member(result.id)),
                RecordStatus::Rejected => self.quarantine(member(result.id)),
                RecordStatus::Retry => {}
            }
        }
    }

    fn settle(&mut self, member: usize, fate: Fate) {
        if self.fates[member] == Fate::Open {
            self.open_records -= 1;
            self.open_bytes -= self.records[member].bytes;
        }
        self.fates[member] = fate;
        self.waiting.remove(&member);
    }

    pub(crate) fn bytes(&self, members: &[usize]) -> u64 {
        members.iter().map(|member| self.records[*member].bytes).sum()
    }

    // The link.

    pub(crate) fn link_is_up(&mut self) -> bool {
        self.link.is_up(self.now)
    }

    /// The current period up, or else the next one.
    pub(crate) fn link_up(&mut self) -> Up {
        self.link.next_up(self.now)
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.link.spec.rtt
    }

    // Requests.

    pub(crate) fn new_batch_id(&mut self) -> BatchId {
        BatchId(Uuid::from_u128(self.rng.u128(..)))
    }

    /// Sends a batch. The client hangs up at `deadline`, counted from the end of the body.
    pub(crate) fn post(&mut self, id: BatchId, members: &[usize], deadline: Option<Duration>) -> Exchange {
        let start = self.now;
        let exchange = self.send_request(id, members, deadline);
        self.trace_request(start, || {
            let faulty = members.iter().filter(|member| self.records[**member].fault.is_some()).count();
            let first = members.first().copied().unwrap_or_default();
            let class = exchange.verdict.class();
            format!("post {} from {first}, {faulty} faulty: {class}", members.len())
        });
        exchange
    }

    fn send_request(&mut self, id: BatchId, members: &[usize], deadline: Option<Duration>) -> Exchange {
        let start = self.now;
        let server = &self.server;
        self.tally.posted(start, members, |member| server.has(member, start), server.spec.outage(start));
        let up = self.link.next_up(start);
        if start < up.from {
            return self.end_request(start, start + NO_ROUTE_DELAY, None, Verdict::Unreachable, None);
        }
        let rtt = self.link.spec.rtt;
        if up.until <= start + rtt {
            return self.end_request(start, up.until, None, Verdict::Unreachable, None);
        }
        let sending = rtt + up.upload(self.bytes(members));
        let arrives = start + sending + rtt / 2;
        if up.until <= arrives {
            let lost = Verdict::Ambiguous(Ambiguity::ConnectionLost);
            return self.end_request(start, up.until, None, lost, None);
        }
        let Served { reply, at, faulty } = self.server.receive(arrives, id, members, &self.records);
        self.tally.faulty_posts += u32::from(faulty);
        let answered = at + rtt / 2;
        let hangs_up = deadline.map_or(Duration::MAX, |deadline| start + sending + deadline);
        let (end, verdict, status) = if up.until < answered.min(hangs_up) {
            (up.until, Verdict::Ambiguous(Ambiguity::ConnectionLost), None)
        } else if hangs_up < answered {
            (hangs_up, Verdict::Ambiguous(Ambiguity::TimedOut), None)
        } else {
            let (verdict, status) = verdict_of(reply);
            (answered, verdict, Some(status))
        };
        self.tally.timed_out += u32::from(status == Some(504));
        if matches!(verdict, Verdict::Completed(_)) {
            self.tally.succeeded(end, members.len(), &self.server.spec.outages);
        }
        self.end_request(start, end, Some(sending), verdict, status)
    }

    fn end_request(
        &mut self,
        start: Duration,
        end: Duration,
        sending: Option<Duration>,
        verdict: Verdict,
        status: Option<u16>,
    ) -> Exchange {
        self.wait_until(end);
        Exchange { verdict, status, elapsed: end.saturating_sub(start), sending }
    }

    /// Queries the outcome of a batch. Returns it with the duration of the query.
    pub(crate) fn query_outcome(&mut self, id: BatchId) -> (OutcomeReply, Duration) {
        let start = self.now;
        self.tally.looked_up(self.server.spec.outage(start));
        let up = self.link.next_up(start);
        let rtt = self.link.spec.rtt;
        let (known, end) = if start < up.from {
            (Known::Unreachable, start + NO_ROUTE_DELAY)
        } else {
            // A round trip for the connection, and one for the query.
            let (known, at) = self.server.look_up(start + rtt + rtt / 2, id);
            let (known, at) =
                if at > start + QUERY_TIMEOUT { (Known::Failed, start + QUERY_TIMEOUT) } else { (known, at) };
            let answered = at + rtt / 2;
            if up.until < answered { (Known::Unreachable, up.until) } else { (known, answered) }
        };
        self.wait_until(end);
        let found = match known {
            Known::Completed(results) => OutcomeReply::Completed(as_results(results)),
            Known::Processing => OutcomeReply::Processing { retry_after: None },
            Known::Unknown => OutcomeReply::UnknownBatch,
            Known::Unsupported => OutcomeReply::Unsupported,
            Known::Failed => OutcomeReply::Failed,
            Known::Throttled => OutcomeReply::Throttled,
            Known::Unreachable => OutcomeReply::Unreachable,
        };
        self.trace_request(start, || format!("look-up: {}", found.class()));
        (found, end.saturating_sub(start))
    }

    fn trace_request(&self, start: Duration, what: impl Fn() -> String) {
        if let Some(who) = self.trace {
            let (start, end) = (start.as_secs_f64(), self.now.as_secs_f64());
            eprintln!("{who} {start:.1}–{end:.1} s: {}", what());
        }
    }
}

fn verdict_of(reply: Reply) -> (Verdict, u16) {
    match reply {
        Reply::Results(results) => (Verdict::Completed(as_results(results)), 200),
        Reply::TimedOut => (Verdict::Ambiguous(Ambiguity::TimedOut), 504),
        Reply::Unavailable => (Verdict::Throttled { retry_after: None, is_protocol: false }, 503),
        Reply::Throttled(wait) => (Verdict::Throttled { retry_after: Some(wait), is_protocol: true }, 429),
        Reply::Processing => (Verdict::StillProcessing { retry_after: Some(PROCESSING_RETRY_AFTER) }, 409),
        Reply::Refused => {
            let message = "a record of this batch is not valid".into();
            (Verdict::Refused(ErrorDetail { code: "INVALID_DATA".into(), message, position: None }), 422)
        }
        Reply::Denied(denial) => match denial {
            Denial::Forbidden => (Verdict::Unauthorized, 403),
            Denial::NotFound => (Verdict::EndpointNotFound, 404),
            Denial::UnsupportedMediaType => (Verdict::EndpointNotFound, 415),
            Denial::TooManyRequests => (Verdict::Throttled { retry_after: None, is_protocol: false }, 429),
            Denial::Unavailable => (Verdict::Throttled { retry_after: None, is_protocol: false }, 503),
            Denial::LoginPage => (Verdict::Intercepted, 200),
            Denial::Redirect => (Verdict::Intercepted, 302),
            Denial::TooLarge => (Verdict::TooLarge, 413),
        },
    }
}

fn as_results(results: Results) -> Vec<RecordResult> {
    let result = |(member, status)| RecordResult::new(record_id(member), status);
    results.into_iter().map(result).collect()
}

pub(crate) fn record_id(member: usize) -> RecordId {
    RecordId(Uuid::from_u128(member as u128))
}

pub(crate) fn member(id: RecordId) -> usize {
    id.0.as_u128() as usize
}
