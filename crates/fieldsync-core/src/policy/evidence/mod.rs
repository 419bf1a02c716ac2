//! Which failures of a record that was sent alone are evidence against it.
//!
//! A failure may be the server's or the record's. So it counts only if other batches show that the server worked:
//!
//! - others were stored wholly before and wholly after it, and no other that was under way between these two failed;
//! - or the batches that were sent next before and next after it were stored, and at every moment of its flight another
//!   batch was under way that was stored.
//!
//! In either case, none that was under way beside it ended without showing anything, as a request does that did not reach
//! the server. An outage that meets any other batch produces no evidence. A failure is judged once all batches that
//! matter have ended. A batch fails together with those that it was cut from, so they are not others.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::BatchId;

/// A success of another record shows that the server was healthy if it is at most this far from the failure.
pub const SUCCESS_WINDOW: Duration = Duration::from_mins(15);
/// Sends that are remembered. Beyond that, what quick batches show beside a slow one is summed up.
const SENDS_MAX: usize = 512;
/// Of those before the first that is still needed, so many are enough to show what was before it.
const EARLIER_SENDS_MAX: usize = 64;

/// The recent sends of all batches, and how they ended.
#[derive(Debug, Default)]
pub struct SendLog {
    /// In the order in which they were sent.
    sends: VecDeque<LoggedSend>,
    /// When the oldest failure was sent that is not judged yet.
    undecided_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct LoggedSend {
    id: BatchId,
    parent: Option<BatchId>,
    sent_at: Duration,
    end: SendEnd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SendEnd {
    /// No response yet.
    Awaited,
    /// The server stored records of it.
    Stored(Duration),
    Failed(Duration),
    /// It showed nothing: it did not reach the server, or the server stored none of its records.
    Inconclusive(Duration),
}

/// The flight of a record that was sent alone and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoneFailure {
    /// Its batch.
    pub id: BatchId,
    /// When it was sent.
    pub sent_at: Duration,
    /// When it failed.
    pub failed_at: Duration,
}

/// What others show about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Judgement {
    /// Others failed as well, or none shows that the server worked.
    Void,
    /// Others have not ended, or were not sent yet.
    Pending,
    Counts,
}

impl LoggedSend {
    fn has_failed(&self) -> bool {
        matches!(self.end, SendEnd::Failed(_))
    }

    fn is_awaited(&self) -> bool {
        self.end == SendEnd::Awaited
    }

    fn stored_at(&self) -> Option<Duration> {
        if let SendEnd::Stored(at) = self.end { Some(at) } else { None }
    }

    fn ended_at(&self) -> Duration {
        match self.end {
            SendEnd::Awaited => Duration::MAX,
            SendEnd::Stored(at) | SendEnd::Failed(at) | SendEnd::Inconclusive(at) => at,
        }
    }
}

impl SendLog {
    /// A batch is about to be sent; `parent`: it fails for the same reason as the batch that it was cut from.
    pub fn start_send(&mut self, now: Duration, id: BatchId, parent: Option<BatchId>) {
        if self.sends.len() >= SENDS_MAX {
            self.shorten();
        }
        self.sends.push_back(LoggedSend { id, parent, sent_at: now, end: SendEnd::Awaited });
    }

    /// The server stored records of a batch.
    pub fn record_success(&mut self, now: Duration, id: BatchId) {
        self.end_send(id, SendEnd::Stored(now));
    }

    /// A batch failed, or was denied.
    pub fn record_failure(&mut self, now: Duration, id: BatchId) {
        if !self.end_send(id, SendEnd::Failed(now)) {
            // It turned out after its response, so the failure is now.
            self.start_send(now, id, None);
            self.end_send(id, SendEnd::Failed(now));
        }
    }

    /// It is over, and showed nothing about the server.
    pub fn end_inconclusively(&mut self, now: Duration, id: BatchId) {
        self.end_send(id, SendEnd::Inconclusive(now));
    }

    /// It was not sent after all.
    pub fn forget_send(&mut self, id: BatchId) {
        self.sends.retain(|send| send.id != id || !send.is_awaited());
    }

    /// The oldest failure that is not judged yet was sent then: what was sent after that is needed.
    pub fn note_undecided(&mut self, since: Option<Duration>) {
        self.undecided_since = since;
    }

    /// Removes a send that matters the least: an old one; or, beside a slow batch, one of two that were stored one
    /// after the other, whose flights become one if they overlap.
    fn shorten(&mut self) {
        let is_needed = |send: &LoggedSend| {
            send.is_awaited() || self.undecided_since.is_some_and(|since| send.sent_at >= since)
        };
        let first_needed = self.sends.iter().position(is_needed).unwrap_or(self.sends.len());
        let stored_end = |at: usize| self.sends.get(at).and_then(LoggedSend::stored_at);
        let is_pair = |at: &usize| stored_end(*at).is_some() && stored_end(*at + 1).is_some();
        let pair = (first_needed..self.sends.len()).find(is_pair);
        let Some(first) = pair.filter(|_| first_needed <= EARLIER_SENDS_MAX) else {
            self.sends.pop_front();
            return;
        };
        let Some(removed) = self.sends.remove(first + 1) else { return };
        if let Some(send) = self.sends.get_mut(first)
            && removed.sent_at <= send.ended_at()
        {
            send.end = SendEnd::Stored(send.ended_at().max(removed.ended_at()));
        }
    }

    fn end_send(&mut self, id: BatchId, end: SendEnd) -> bool {
        let awaited = self.sends.iter_mut().rev().find(|send| send.id == id && send.is_awaited());
        awaited.map(|send| send.end = end).is_some()
    }

    fn judge(&self, failure: &LoneFailure) -> Judgement {
        let is_inconclusive = |send: &LoggedSend| {
            let SendEnd::Inconclusive(ended_at) = send.end else { return false };
            send.sent_at <= failure.failed_at && ended_at >= failure.sent_at
        };
        if self.others(failure).any(|(_, send)| is_inconclusive(send)) {
            return Judgement::Void;
        }
        self.judge_by_neighbours(failure).max(self.judge_by_companions(failure))
    }

    /// Whether others were stored wholly before and wholly after it, and none between them failed.
    fn judge_by_neighbours(&self, failure: &LoneFailure) -> Judgement {
        let others = || self.others(failure).map(|(_, send)| send);
        let before = others().filter_map(LoggedSend::stored_at).filter(|at| *at <= failure.sent_at).max();
        let Some(before) = before.filter(|at| is_within_window(*at, failure.failed_at)) else {
            return Judgement::Void;
        };
        let is_after = |send: &&LoggedSend| send.sent_at >= failure.failed_at && send.stored_at().is_some();
        let after = others().filter(is_after).map(|send| send.sent_at).min();
        if after.is_some_and(|at| !is_within_window(failure.failed_at, at)) {
            return Judgement::Void;
        }
        let until = after.unwrap_or(Duration::MAX);
        let mut between = others().filter(|send| send.sent_at < until && send.ended_at() > before);
        if between.clone().any(LoggedSend::has_failed) {
            Judgement::Void
        } else if after.is_none() || between.any(LoggedSend::is_awaited) {
            Judgement::Pending
        } else {
            Judgement::Counts
        }
    }

    /// Whether the nearest sends before and after it were stored, and so was one beside it at each moment.
    fn judge_by_companions(&self, failure: &LoneFailure) -> Judgement {
        let own =
            self.sends.iter().rposition(|send| send.id == failure.id && send.sent_at == failure.sent_at);
        let Some(own) = own else { return Judgement::Void };
        let conclusive =
            || self.others(failure).filter(|(_, send)| !matches!(send.end, SendEnd::Inconclusive(_)));
        let before = conclusive().take_while(|(at, _)| *at < own).last();
        let after = conclusive().find(|(at, _)| *at > own);
        let judge_neighbour = |neighbour: Option<(usize, &LoggedSend)>, none| match neighbour {
            None => none,
            Some((_, send)) if send.has_failed() => Judgement::Void,
            Some((_, send)) if send.is_awaited() => Judgement::Pending,
            Some((_, send))
                if is_within_window(
                    send.ended_at().min(failure.failed_at),
                    failure.failed_at.max(send.sent_at),
                ) =>
            {
                Judgement::Counts
            }
            Some(_) => Judgement::Void,
        };
        judge_neighbour(before, Judgement::Void)
            .min(judge_neighbour(after, Judgement::Pending))
            .min(self.judge_coverage(failure))
    }

    /// Whether others that were stored were under way at each moment of the flight.
    fn judge_coverage(&self, failure: &LoneFailure) -> Judgement {
        let (mut surely, mut perhaps) = (failure.sent_at, failure.sent_at);
        // In the order of their sends, so that each extends what those before it cover.
        let may_be_stored = |send: &LoggedSend| send.is_awaited() || send.stored_at().is_some();
        for (_, send) in self.others(failure).filter(|(_, send)| may_be_stored(send)) {
            if send.sent_at <= perhaps {
                perhaps = perhaps.max(send.ended_at());
            }
            if send.sent_at <= surely && !send.is_awaited() {
                surely = surely.max(send.ended_at());
            }
        }
        if surely >= failure.failed_at {
            Judgement::Counts
        } else if perhaps >= failure.failed_at {
            Judgement::Pending
        } else {
            Judgement::Void
        }
    }

    /// The sends of all batches but its own and those that it was cut from, with their places in the order.
    fn others(&self, failure: &LoneFailure) -> impl Iterator<Item = (usize, &LoggedSend)> + Clone {
        let mut own = vec![failure.id];
        // Newest first, so that each batch comes before those that it was cut from.
        for send in self.sends.iter().rev() {
            if own.contains(&send.id) {
                own.extend(send.parent.filter(|parent| !own.contains(parent)));
            }
        }
        self.sends.iter().enumerate().filter(move |(_, send)| !own.contains(&send.id))
    }
}

/// The evidence against one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultEvidence {
    /// Failures of the record alone that count.
    pub counted: u32,
    /// A failure that may yet count.
    pending: Option<LoneFailure>,
    /// A failure that an outcome query has not confirmed yet, and what others showed about it so far.
    unconfirmed: Option<(LoneFailure, Judgement)>,
}

impl FaultEvidence {
    /// The evidence as saved before a restart.
    pub fn from_saved(counted: u32) -> Self {
        Self { counted, ..Self::default() }
    }

    /// The record was sent alone and got no response.
    pub fn record_unconfirmed_failure(&mut self, failure: LoneFailure, log: &SendLog) {
        self.unconfirmed = Some((failure, log.judge(&failure)));
    }

    /// The record failed alone. If the failure was unconfirmed until now, what happened around that time counts.
    pub fn record_failure(&mut self, failure: LoneFailure, log: &SendLog) {
        let judge = || (failure, log.judge(&failure));
        match self.unconfirmed.take().unwrap_or_else(judge) {
            (_, Judgement::Counts) => {
                self.pending = None;
                self.counted += 1;
            }
            (failure, Judgement::Pending) => self.pending = Some(failure),
            (_, Judgement::Void) => {}
        }
    }

    /// Other batches were sent or ended. Returns whether a failure counts now.
    pub fn review(&mut self, log: &SendLog) -> bool {
        if let Some((failure, judgement)) = &mut self.unconfirmed
            && *judgement == Judgement::Pending
        {
            *judgement = log.judge(failure);
        }
        let Some(failure) = self.pending else { return false };
        let judgement = log.judge(&failure);
        if judgement != Judgement::Pending {
            self.pending = None;
        }
        let counts = judgement == Judgement::Counts;
        self.counted += u32::from(counts);
        counts
    }

    /// When the failure was sent that may yet count.
    pub fn undecided_since(&self) -> Option<Duration> {
        let unconfirmed = self.unconfirmed.filter(|(_, judgement)| *judgement == Judgement::Pending);
        self.pending.or(unconfirmed.map(|(failure, _)| failure)).map(|failure| failure.sent_at)
    }

    /// Whether a failure counts, or would count after a success of others.
    pub fn has_failure(&self) -> bool {
        self.counted > 0 || self.awaits_success()
    }

    /// Whether a failure waits for a success of others: until then, another test shows nothing new.
    pub fn awaits_success(&self) -> bool {
        self.undecided_since().is_some()
    }
}

/// Whether `then` is recent enough that the server is in the same condition `now`.
pub fn is_within_window(then: Duration, now: Duration) -> bool {
    now.saturating_sub(then) <= SUCCESS_WINDOW
}

#[cfg(test)]
mod tests;
