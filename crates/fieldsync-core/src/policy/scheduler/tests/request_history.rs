//! The requests of a simulation: which failures may count against a record.

use crate::policy::verdict::Verdict;

/// The requests and their results, in order.
#[derive(Default)]
pub(super) struct RequestHistory(Vec<PastRequest>);

struct PastRequest {
    members: Vec<usize>,
    effect: RequestEffect,
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
    pub(super) fn record_request(&mut self, members: &[usize], effect: RequestEffect) {
        self.0.push(PastRequest { members: members.to_vec(), effect });
    }

    /// How often a record failed alone while the nearest requests without it, before and after, succeeded.
    pub(super) fn failures_between_successes(&self, member: usize) -> usize {
        let without =
            |past: &&PastRequest| !past.members.contains(&member) && past.effect != RequestEffect::Nothing;
        let succeeded =
            |nearest: Option<&PastRequest>| nearest.is_some_and(|past| past.effect == RequestEffect::Stored);
        let alone = self.0.iter().enumerate().filter(|(_, past)| past.members == [member]);
        let between = alone.filter(|(at, past)| {
            let before = self.0[..*at].iter().rev().find(without);
            let after = self.0[at + 1..].iter().find(without);
            // Whether the server was still processing it shows only at the next query, after all requests in between.
            let begins = succeeded(before) || past.effect == RequestEffect::Nothing;
            past.effect != RequestEffect::Stored && begins && succeeded(after)
        });
        between.count()
    }
}
