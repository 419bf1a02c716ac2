//! Requests of the simulation whose responses are on their way: batches, a canary and a query, which overtake each other.

use std::time::Duration;

use super::behaviour::QueryBehaviour;
use super::world::World;
use super::{SECOND, error, upload_result};
use crate::model::{BatchId, LastError};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::verdict::{Ambiguity, UploadResult, Verdict};
use crate::protocol::wire::RecordStatus;

/// A request whose response is on its way.
pub(super) struct Flight {
    ends: Duration,
    sent_at: Duration,
    id: BatchId,
    kind: FlightKind,
}

/// What was sent, and what the response will be.
pub(super) enum FlightKind {
    Batch(Vec<usize>, Verdict),
    /// A record that the server has.
    Canary(usize, Verdict),
    Query(OutcomeReply),
}

impl World {
    pub(super) fn start_flight(&mut self, id: BatchId, elapsed: Duration, kind: FlightKind) {
        self.requests += usize::from(!matches!(kind, FlightKind::Query(_)));
        // With one slot, responses take the same time; with several, they overtake each other.
        let most = self.config.batch.max_in_flight;
        let spread = if most > 1 { self.rng.u32(500..3000) } else { 1000 };
        let ends = self.now + elapsed.mul_f64(f64::from(spread) / 1000.0);
        self.flights.push(Flight { ends, sent_at: self.now, id, kind });
        let uploads = self.flights.iter().filter(|flight| !matches!(flight.kind, FlightKind::Query(_)));
        assert!(uploads.count() <= most, "more than {most} under way");
    }

    pub(super) fn next_response(&self) -> Option<Duration> {
        self.flights.iter().map(|flight| flight.ends).min()
    }

    pub(super) fn deliver_response(&mut self) {
        let next = (0..self.flights.len()).min_by_key(|at| self.flights[*at].ends).unwrap();
        let Flight { ends, sent_at, id, kind } = self.flights.swap_remove(next);
        self.now = ends.max(self.now);
        match kind {
            FlightKind::Batch(members, verdict) => self.end_batch(sent_at, id, &members, &verdict),
            FlightKind::Canary(member, verdict) => {
                self.record_response(sent_at, &[member], &verdict);
                self.with_view(|scheduler, view| scheduler.on_canary_response(view, id, &verdict));
            }
            FlightKind::Query(reply) => self.end_query(sent_at, id, &reply),
        }
    }

    fn record_response(&mut self, sent_at: Duration, members: &[usize], verdict: &Verdict) {
        self.note_response(sent_at, members, verdict);
        let (now, effect) = (self.now, verdict.effect());
        self.breaker.record_response(now, sent_at, effect, &self.config.breaker, &mut self.rng);
    }

    fn end_batch(&mut self, sent_at: Duration, id: BatchId, members: &[usize], verdict: &Verdict) {
        self.record_response(sent_at, members, verdict);
        let http_status = match verdict {
            Verdict::Ambiguous(Ambiguity::TimedOut) => Some(504),
            _ => verdict.is_denial().then_some(403),
        };
        let error = LastError { http_status, ..error() };
        let elapsed = self.now.checked_sub(sent_at).unwrap();
        let result = UploadResult { error, ..upload_result(verdict, elapsed) };
        let disposition = self.with_view(|scheduler, view| scheduler.on_response(view, id, &result));
        self.settle(id, disposition);
    }

    pub(super) fn start_query(&mut self, id: BatchId) {
        self.scheduler.start_query(self.now);
        let reply = match self.queries {
            QueryBehaviour::Missing => OutcomeReply::Unsupported,
            QueryBehaviour::Failing => OutcomeReply::Failed,
            QueryBehaviour::Throttled => OutcomeReply::Throttled,
            QueryBehaviour::Unreachable => OutcomeReply::Unreachable,
            QueryBehaviour::Good if !self.open.contains_key(&id) => OutcomeReply::UnknownBatch,
            QueryBehaviour::Good if self.known.contains(&id) => {
                OutcomeReply::Completed(Self::results(&self.open[&id].1, RecordStatus::Applied))
            }
            QueryBehaviour::Good if self.rng.u8(..4) == 0 => {
                OutcomeReply::Processing { retry_after: Some(10 * SECOND) }
            }
            QueryBehaviour::Good => OutcomeReply::UnknownBatch,
        };
        let is_parallel = self.config.batch.max_in_flight > 1;
        let elapsed = if is_parallel { SECOND } else { Duration::ZERO };
        self.start_flight(id, elapsed, FlightKind::Query(reply));
    }

    fn end_query(&mut self, sent_at: Duration, id: BatchId, reply: &OutcomeReply) {
        let (now, effect) = (self.now, reply.effect());
        self.breaker.record_query(now, sent_at, effect, &self.config.breaker, &mut self.rng);
        if let (OutcomeReply::Completed(results), Some((_, members))) = (reply, self.open.get(&id)) {
            let (members, verdict) = (members.clone(), Verdict::Completed(results.clone()));
            self.note_response(now, &members, &verdict);
        }
        if let Some(disposition) =
            self.with_view(|scheduler, view| scheduler.on_outcome_reply(view, id, reply))
        {
            self.settle(id, disposition);
        }
    }
}
