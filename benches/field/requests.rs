//! The requests of the clients, on their way through the link, the gateway and the server.

use std::time::Duration;

use fieldsync::model::{BatchId, RecordId};
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::policy::verdict::{Ambiguity, Verdict};
use fieldsync::protocol::wire::{ErrorDetail, RecordResult};
use uuid::Uuid;

use crate::events::{DeviceId, Event, RequestId};
use crate::record::Denial;
use crate::server::{Known, Received, Reply, Results, Served};
use crate::world::{Notice, World};

/// How long a request takes to fail on a link that is down.
const NO_ROUTE_DELAY: Duration = Duration::from_millis(100);
/// How long a client waits for the reply to an outcome query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait that a server asks for while it is processing the batch.
const PROCESSING_RETRY_AFTER: Duration = Duration::from_secs(5);

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

/// A request under way.
#[derive(Debug)]
pub(crate) struct Request {
    device: DeviceId,
    id: BatchId,
    sent: Duration,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Batch {
        members: Vec<usize>,
        /// When the body is sent completely; none if the link goes down before it arrived.
        body_sent: Option<Duration>,
        /// How it fails on the client's side.
        failure: Verdict,
        reply: Option<Reply>,
    },
    Query(Option<Known>),
}

impl World {
    /// Sends a batch, and waits for its end.
    pub(crate) fn post(
        &mut self,
        device: DeviceId,
        id: BatchId,
        members: &[usize],
        deadline: Option<Duration>,
    ) -> Exchange {
        let request = self.start_post(device, id, members, deadline);
        loop {
            match self.next_notice() {
                Some((_, Notice::BatchEnded(ended, exchange))) if ended == request => return exchange,
                Some(_) => {}
                None => unreachable!("the end of every request is planned"),
            }
        }
    }

    /// Starts to send a batch. The client hangs up at `deadline`, counted from the end of the body.
    pub(crate) fn start_post(
        &mut self,
        device: DeviceId,
        id: BatchId,
        members: &[usize],
        deadline: Option<Duration>,
    ) -> RequestId {
        let (start, bytes) = (self.now, self.bytes(members));
        self.count_post(device, members);
        let sender = &mut self.devices[device];
        let (up, rtt) = (sender.link.next_up(start), sender.link.spec.rtt);
        let (body_sent, fails, failure) = if start < up.from {
            (None, start + NO_ROUTE_DELAY, Verdict::Unreachable)
        } else if up.until <= start + rtt {
            (None, up.until, Verdict::Unreachable)
        } else {
            let body_sent = sender.send_body(up, start + rtt, bytes);
            let hangs_up = deadline.map_or(Duration::MAX, |deadline| body_sent + deadline);
            if up.until <= body_sent + rtt / 2 {
                (None, up.until, Verdict::Ambiguous(Ambiguity::ConnectionLost))
            } else if up.until < hangs_up {
                (Some(body_sent), up.until, Verdict::Ambiguous(Ambiguity::ConnectionLost))
            } else {
                (Some(body_sent), hangs_up, Verdict::Ambiguous(Ambiguity::TimedOut))
            }
        };
        let content = Content::Batch { members: members.to_vec(), body_sent, failure, reply: None };
        let request = self.add_request(Request { device, id, sent: start, content });
        if let Some(body_sent) = body_sent {
            self.events.plan(body_sent + rtt / 2, Event::BatchArrives(request));
        }
        if fails < Duration::MAX {
            self.events.plan(fails, Event::RequestFails(request));
        }
        request
    }

    fn add_request(&mut self, request: Request) -> RequestId {
        self.requests_sent += 1;
        self.requests.insert(self.requests_sent, request);
        self.requests_sent
    }

    fn count_post(&mut self, device: DeviceId, members: &[usize]) {
        let (now, server) = (self.now, &self.server);
        let is_under_way = |member: &usize| {
            self.requests.values().any(|request| match &request.content {
                Content::Batch { members, .. } => members.contains(member),
                Content::Query(_) => false,
            })
        };
        let doubled = members.iter().filter(|member| is_under_way(member)).count();
        let tally = &mut self.devices[device].tally;
        tally.doubled += u32::try_from(doubled).unwrap_or(u32::MAX);
        tally.posted(now, members, |member| server.has(member), server.spec.outage(now));
    }

    pub(super) fn batch_arrives(&mut self, request: RequestId) {
        // The client may have hung up in the meantime.
        let Some(Request { device, id, content: Content::Batch { members, .. }, .. }) =
            self.requests.get(&request)
        else {
            return;
        };
        let device = *device;
        match self.server.receive(self.now, request, *id, members, &self.records) {
            Received::Reply(Served { reply, at, faulty }) => {
                self.devices[device].tally.faulty_posts += u32::from(faulty);
                self.reply(request, reply, at);
            }
            Received::Accepted { times_out } => {
                self.events.plan(times_out, Event::GatewayTimesOut(request));
                self.start_work();
            }
        }
    }

    pub(super) fn start_work(&mut self) {
        if let Some(done) = self.server.start_work(self.now, &self.records) {
            self.work_plan += 1;
            self.events.plan(done, Event::WorkDone { plan: self.work_plan });
        }
    }

    pub(super) fn finish_work(&mut self) {
        for (request, results) in self.server.finish_work(self.now) {
            self.reply(request, Reply::Results(results), self.now);
        }
        self.start_work();
    }

    pub(super) fn gateway_times_out(&mut self, request: RequestId) {
        self.reply(request, Reply::TimedOut, self.now);
    }

    /// The gateway sends a response, unless it sent another one.
    fn reply(&mut self, request: RequestId, response: Reply, at: Duration) {
        let Some(Request { device, content: Content::Batch { reply, .. }, .. }) =
            self.requests.get_mut(&request)
        else {
            return;
        };
        if reply.is_none() {
            *reply = Some(response);
            let rtt = self.devices[*device].link.spec.rtt;
            self.events.plan(at + rtt / 2, Event::ResponseArrives(request));
        }
    }

    /// The request has its response, or fails.
    pub(super) fn end_request(&mut self, request: RequestId, responded: bool) -> Option<(DeviceId, Notice)> {
        let Request { device, id, sent, content } = self.requests.remove(&request)?;
        let elapsed = self.now.saturating_sub(sent);
        let notice = match content {
            Content::Batch { members, body_sent, failure, reply } => {
                let (verdict, status) = match reply.filter(|_| responded) {
                    Some(reply) => {
                        let (verdict, status) = verdict_of(reply);
                        (verdict, Some(status))
                    }
                    None => (failure, None),
                };
                let sending = body_sent.map(|end| end.saturating_sub(sent));
                let exchange = Exchange { verdict, status, elapsed, sending };
                self.count_end(device, &members, &exchange);
                self.trace_post(device, sent, id, &members, &exchange);
                Notice::BatchEnded(request, exchange)
            }
            Content::Query(known) => {
                let found = outcome_of(known.unwrap_or(Known::Unreachable));
                self.trace_request(device, sent, || format!("look-up of {}: {}", short(id), found.class()));
                Notice::QueryEnded(request, found)
            }
        };
        Some((device, notice))
    }

    fn count_end(&mut self, device: DeviceId, members: &[usize], exchange: &Exchange) {
        let tally = &mut self.devices[device].tally;
        tally.ended(exchange.elapsed, exchange.status);
        if matches!(exchange.verdict, Verdict::Completed(_)) {
            tally.succeeded(self.now, members.len(), &self.server.spec.outages);
        }
    }

    /// Starts to query the outcome of a batch.
    pub(crate) fn start_query(&mut self, device: DeviceId, id: BatchId) -> RequestId {
        let start = self.now;
        let sender = &mut self.devices[device];
        sender.tally.looked_up(self.server.spec.outage(start));
        let (up, rtt) = (sender.link.next_up(start), sender.link.spec.rtt);
        let request = self.add_request(Request { device, id, sent: start, content: Content::Query(None) });
        // A round trip for the connection, and one for the query.
        let arrives = start + rtt + rtt / 2;
        if start < up.from {
            self.events.plan(start + NO_ROUTE_DELAY, Event::RequestFails(request));
        } else if up.until <= arrives {
            self.events.plan(up.until, Event::RequestFails(request));
        } else {
            self.events.plan(arrives, Event::QueryArrives(request));
        }
        request
    }

    pub(super) fn query_arrives(&mut self, request: RequestId) {
        let Some(Request { device, id, sent, content: Content::Query(reply) }) =
            self.requests.get_mut(&request)
        else {
            return;
        };
        let (known, at) = self.server.look_up(self.now, *id);
        let timeout = *sent + QUERY_TIMEOUT;
        let (known, at) = if at > timeout { (Known::Failed, timeout) } else { (known, at) };
        let link = &mut self.devices[*device].link;
        let (answered, up) = (at + link.spec.rtt / 2, link.next_up(self.now));
        if up.until < answered {
            self.events.plan(up.until, Event::RequestFails(request));
        } else {
            *reply = Some(known);
            self.events.plan(answered, Event::ResponseArrives(request));
        }
    }

    /// The client sends at most so many batches at once from now on.
    pub(crate) fn note_window(&mut self, device: DeviceId, window: usize, rule: &str) {
        let tally = &mut self.devices[device].tally;
        if tally.window != window {
            tally.window = window;
            tally.window_changes += 1;
            self.trace_request(device, self.now, || format!("at most {window} at once: {rule}"));
        }
    }

    fn trace_post(
        &self,
        device: DeviceId,
        sent: Duration,
        id: BatchId,
        members: &[usize],
        exchange: &Exchange,
    ) {
        self.trace_request(device, sent, || {
            let faulty = members.iter().filter(|member| self.records[**member].fault.is_some()).count();
            let first = members.first().copied().unwrap_or_default();
            let (class, count) = (exchange.verdict.class(), members.len());
            format!("post {} of {count} from {first}, {faulty} faulty: {class}", short(id))
        });
    }

    fn trace_request(&self, device: DeviceId, start: Duration, what: impl Fn() -> String) {
        if let Some(who) = self.trace {
            let (start, end) = (start.as_secs_f64(), self.now.as_secs_f64());
            let under_way = self.requests.values().filter(|request| request.device == device).count();
            eprintln!("{who} {device} {start:.1}–{end:.1} s, {under_way} more: {}", what());
        }
    }
}

/// The first digits of an id.
fn short(id: BatchId) -> String {
    format!("{:04x}", id.0.as_u128() >> 112)
}

fn outcome_of(known: Known) -> OutcomeReply {
    match known {
        Known::Completed(results) => OutcomeReply::Completed(as_results(results)),
        Known::Processing => OutcomeReply::Processing { retry_after: None },
        Known::Unknown => OutcomeReply::UnknownBatch,
        Known::Unsupported => OutcomeReply::Unsupported,
        Known::Failed => OutcomeReply::Failed,
        Known::Throttled => OutcomeReply::Throttled,
        Known::Unreachable => OutcomeReply::Unreachable,
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
