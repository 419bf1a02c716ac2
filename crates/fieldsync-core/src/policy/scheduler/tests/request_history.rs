//! The requests of a simulation: which failures may count against a record.

use std::time::Duration;

use crate::policy::verdict::Verdict;

/// The requests and their results, in order.
#[derive(Default)]
pub(super) struct RequestHistory(Vec<PastRequest>);

pub(super) struct PastRequest {
    pub(super) sent_at: Duration,
    pub(super) ended_at: Duration,
    pub(super) members: Vec<usize>,
    pub(super) effect: RequestEffect,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RequestEffect {
    /// Some of its records were stored.
    Stored,
    Failed,
    /// It shows nothing about the records or the server.
    Nothing,
}

impl RequestEffect {
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Completed(results) if results.iter().any(|result| result.status.is_stored()) => {
                Self::Stored
            }
            Verdict::Completed(_)
            | Verdict::Unreachable
            | Verdict::EncodingRefused
            | Verdict::BatchIdReused
            | Verdict::StillProcessing { .. } => Self::Nothing,
            _ => Self::Failed,
        }
    }
}

impl RequestHistory {
    pub(super) fn record_request(&mut self, request: PastRequest) {
        self.0.push(request);
    }

    /// How often a record failed alone where the requests without it show that the server worked: some were stored
    /// wholly before and wholly after it and none between them failed, or one that was stored was under way at each
    /// moment.
    pub(super) fn failures_among_successes(&self, member: usize) -> usize {
        let alone =
            self.0.iter().filter(|past| past.members == [member] && past.effect != RequestEffect::Stored);
        alone
            .filter(|failure| self.is_between(failure, member) || self.is_accompanied(failure, member))
            .count()
    }

    fn others(&self, member: usize) -> impl Iterator<Item = &PastRequest> {
        self.0
            .iter()
            .filter(move |past| !past.members.contains(&member) && past.effect != RequestEffect::Nothing)
    }

    fn is_between(&self, failure: &PastRequest, member: usize) -> bool {
        let stored = || self.others(member).filter(|past| past.effect == RequestEffect::Stored);
        let before = stored().map(|past| past.ended_at).filter(|ended| *ended <= failure.sent_at).max();
        // Whether the server was still processing it shows only at a later query.
        let before = before.or((failure.effect == RequestEffect::Nothing).then_some(failure.sent_at));
        let after = stored().map(|past| past.sent_at).filter(|sent| *sent >= failure.ended_at).min();
        let (Some(before), Some(after)) = (before, after) else { return false };
        let mut others = self.others(member).filter(|past| past.effect == RequestEffect::Failed);
        let is_unclear = failure.effect == RequestEffect::Nothing;
        is_unclear || !others.any(|past| past.sent_at < after && past.ended_at > before)
    }

    fn is_accompanied(&self, failure: &PastRequest, member: usize) -> bool {
        let mut until = failure.sent_at;
        let mut stored: Vec<&PastRequest> =
            self.others(member).filter(|past| past.effect == RequestEffect::Stored).collect();
        stored.sort_by_key(|past| past.sent_at);
        for past in stored {
            if past.sent_at <= until {
                until = until.max(past.ended_at);
            }
        }
        until >= failure.ended_at
    }
}
