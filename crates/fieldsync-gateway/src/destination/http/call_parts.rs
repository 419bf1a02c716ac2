//! Parts of a call, and which of them are sent again when it is not certain whose a result is.
//!
//! A destination that does not name the record in an error is believed only as far as the order of its results does
//! not matter. If some records were applied and others rejected, the rejected ones are sent once more: in a wrong
//! order, a good record would be among them, and pass. If some are to be tried again, no such check is possible, and
//! each group is sent once more.

use crate::destination::delivery::{RecordVerdict, Verdict};

/// A call or a part of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CallPart {
    pub(super) positions: Vec<usize>,
    /// How often its outcome was unknown, and why the last time.
    pub(super) unknowns: u32,
    pub(super) unknown_reason: Option<String>,
    /// A token was refused, and this call asked for another.
    pub(super) has_renewed: bool,
    /// Other records of the call were taken: what stops these does not stop their type.
    pub(super) others_applied: bool,
    /// It was refused alone, and put behind the others: they show whether it is the cause.
    pub(super) was_put_back: bool,
    /// Verdicts of other records that hold if all of this part are rejected again.
    pub(super) claimed: Vec<RecordVerdict>,
}

/// What becomes of the records of a part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PartOutcome {
    pub(super) settled: Vec<RecordVerdict>,
    /// To be sent, the last first.
    pub(super) parts: Vec<CallPart>,
}

impl CallPart {
    pub(super) fn new(positions: Vec<usize>) -> Self {
        Self { positions, ..Self::default() }
    }

    /// The same records with other positions.
    fn with_positions(&self, positions: Vec<usize>) -> Self {
        Self {
            positions,
            unknowns: self.unknowns,
            unknown_reason: self.unknown_reason.clone(),
            has_renewed: self.has_renewed,
            others_applied: self.others_applied,
            was_put_back: false,
            claimed: Vec::new(),
        }
    }

    /// The records that wait for this part, to be sent on their own.
    fn release_claimed(&self) -> Option<Self> {
        let positions: Vec<usize> = self.claimed.iter().map(|claimed| claimed.position).collect();
        (!positions.is_empty()).then(|| self.with_positions(positions))
    }

    /// Half of the records each. What waited for the part is sent, too.
    pub(super) fn split(mut self) -> Vec<Self> {
        let released = self.release_claimed();
        let second = self.positions.split_off(self.positions.len().div_ceil(2));
        let first = std::mem::take(&mut self.positions);
        let halves = [second, first].map(|half| self.with_positions(half));
        released.into_iter().chain(halves.into_iter().filter(|half| !half.positions.is_empty())).collect()
    }

    /// What follows from one verdict for each record, if it is certain whose they are.
    pub(super) fn settle(self, verdicts: Vec<Verdict>) -> PartOutcome {
        let is_confirmed = verdicts.iter().all(is_rejected);
        let mut outcome = PartOutcome::default();
        if !is_confirmed {
            outcome.parts.extend(self.release_claimed());
        }
        let own = self.positions.into_iter().zip(verdicts);
        outcome.settled = own.map(|(position, verdict)| RecordVerdict { position, verdict }).collect();
        if is_confirmed {
            outcome.settled.extend(self.claimed);
        }
        outcome
    }

    /// What follows from one verdict for all, which did not come from results.
    pub(super) fn settle_all(self, verdict: &Verdict) -> PartOutcome {
        let claimed = self.claimed.into_iter().map(|claimed| {
            let verdict = if is_rejected(verdict) { claimed.verdict } else { verdict.clone() };
            RecordVerdict { position: claimed.position, verdict }
        });
        let own = self.positions.into_iter();
        let own = own.map(|position| RecordVerdict { position, verdict: verdict.clone() });
        PartOutcome { settled: own.chain(claimed).collect(), parts: Vec::new() }
    }

    /// What follows from one verdict for each record, if it is not certain whose they are.
    pub(super) fn confirm(mut self, verdicts: Vec<Verdict>) -> PartOutcome {
        let mut parts: Vec<Self> = self.release_claimed().into_iter().collect();
        let (mut applied, mut rejected, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (position, verdict) in self.positions.iter().copied().zip(verdicts) {
            match verdict {
                Verdict::Applied(_) => applied.push(RecordVerdict { position, verdict }),
                Verdict::Rejected { .. } => rejected.push(position),
                Verdict::Retry { .. } => others.push(position),
            }
        }
        self.others_applied |= !applied.is_empty();
        if others.is_empty() {
            let mut check = self.with_positions(rejected);
            check.claimed = applied;
            parts.push(check);
        } else {
            let applied = applied.into_iter().map(|applied| applied.position).collect();
            for group in [others, rejected, applied] {
                if !group.is_empty() {
                    parts.push(self.with_positions(group));
                }
            }
        }
        PartOutcome { settled: Vec::new(), parts }
    }
}

fn is_rejected(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Rejected { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::receipt::Receipt;

    fn applied() -> Verdict {
        Verdict::Applied(Receipt::parse("{}").unwrap())
    }

    fn rejected() -> Verdict {
        Verdict::Rejected { code: "BAD".into(), message: String::new(), field: None }
    }

    fn later() -> Verdict {
        Verdict::retry(None, "LATER", "")
    }

    fn settled(outcome: &PartOutcome) -> Vec<usize> {
        outcome.settled.iter().map(|verdict| verdict.position).collect()
    }

    fn positions(outcome: &PartOutcome) -> Vec<Vec<usize>> {
        outcome.parts.iter().map(|part| part.positions.clone()).collect()
    }

    #[test]
    fn applied_records_wait_until_the_rejected_ones_are_rejected_again() {
        let check = || {
            let mut outcome = CallPart::new(vec![4, 5, 6]).confirm(vec![applied(), rejected(), applied()]);
            assert_eq!((settled(&outcome), positions(&outcome)), (vec![], vec![vec![5]]));
            outcome.parts.remove(0)
        };
        let outcome = check().settle(vec![rejected()]);
        assert_eq!((settled(&outcome), positions(&outcome)), (vec![5, 4, 6], vec![]));
        assert_eq!(outcome.settled[1].verdict, applied());
        // A record that was rejected passes: the order was wrong, so that the others are sent again.
        let outcome = check().settle(vec![applied()]);
        assert_eq!((settled(&outcome), positions(&outcome)), (vec![5], vec![vec![4, 6]]));
        let outcome = check().settle_all(&later());
        assert_eq!(settled(&outcome), [5, 4, 6]);
        assert!(outcome.settled.iter().all(|settled| settled.verdict == later()));
    }

    #[test]
    fn with_records_that_are_tried_again_each_group_is_sent_again() {
        let outcome = CallPart::new(vec![1, 2, 3]).confirm(vec![applied(), later(), rejected()]);
        assert_eq!((settled(&outcome), positions(&outcome)), (vec![], vec![vec![2], vec![3], vec![1]]));
    }

    #[test]
    fn halves_have_all_records_and_nothing_waits_for_them() {
        let mut part = CallPart::new(vec![1, 2, 3]);
        part.claimed = vec![RecordVerdict { position: 9, verdict: applied() }];
        part.unknowns = 2;
        let halves = part.split();
        let all: Vec<Vec<usize>> = halves.iter().map(|half| half.positions.clone()).collect();
        assert_eq!(all, [vec![9], vec![3], vec![1, 2]]);
        assert!(halves.iter().all(|half| half.claimed.is_empty() && half.unknowns == 2));
    }
}
