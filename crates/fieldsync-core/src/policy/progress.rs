//! Progress in records.

use crate::model::Backlog;

/// The progress of a run, which lasts from the first waiting record until none is left.
///
/// Neither `done` nor `total` decreases during a run. When it ends, both count what became of its records: those that
/// the server confirmed and those that need review. A record that was sent again counts once. A discarded record counts
/// in neither, even if it is discarded after the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    active: bool,
    synced_before: u64,
    /// Records of earlier runs that still need review; none before the first run.
    reviews_before: Option<u64>,
    /// Records settled in this run.
    pub done: u64,
    /// `done` plus the records that still have to be sent.
    pub total: u64,
    /// Records that the server confirmed in this run.
    pub synced: u64,
}

impl Progress {
    /// Updates the progress from the backlog. Returns whether a run began.
    pub fn update(&mut self, backlog: &Backlog) -> bool {
        let to_go = backlog.to_go();
        let begins = !self.active && to_go > 0;
        if begins {
            *self = Self {
                active: true,
                synced_before: backlog.synced_total,
                reviews_before: Some(backlog.quarantined),
                ..Self::default()
            };
        }
        let Some(reviews_before) = self.reviews_before else { return false };
        // A record of an earlier run that is sent again belongs to this one from now on.
        let reviews_before = reviews_before.min(backlog.quarantined);
        self.reviews_before = Some(reviews_before);
        if self.active {
            self.synced = backlog.synced_total - self.synced_before;
        }
        let settled = self.synced + (backlog.quarantined - reviews_before);
        if self.active {
            self.done = self.done.max(settled);
            self.total = self.total.max(settled + to_go);
            self.active = to_go > 0;
        }
        if !self.active {
            (self.done, self.total) = (settled, settled);
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(pending: u64, synced_total: u64, quarantined: u64) -> Backlog {
        Backlog { pending, quarantined, synced_total, ..Backlog::default() }
    }

    #[test]
    fn a_run_ends_when_nothing_is_left_and_the_next_counts_from_zero() {
        let mut progress = Progress::default();
        assert!(progress.update(&backlog(10, 0, 0)));
        assert!(!progress.update(&backlog(4, 6, 0)));
        assert!(!progress.update(&backlog(0, 10, 0)));
        assert_eq!((progress.done, progress.total), (10, 10));
        assert!(progress.update(&backlog(3, 10, 0)));
        assert_eq!((progress.done, progress.total), (0, 3));
    }

    /// After each backlog: done, total, synced.
    #[track_caller]
    fn check(steps: &[(Backlog, (u64, u64, u64))]) {
        let mut progress = Progress::default();
        for (index, (backlog, expected)) in steps.iter().enumerate() {
            progress.update(backlog);
            assert_eq!((progress.done, progress.total, progress.synced), *expected, "step {index}");
        }
    }

    #[test]
    fn a_record_that_is_sent_again_and_then_discarded_is_in_no_count() {
        check(&[
            (backlog(1, 0, 0), (0, 1, 0)),
            (backlog(0, 1, 0), (1, 1, 1)),
            // Two of one key. The first is refused, retried, refused again and discarded; then the second is synced.
            (backlog(2, 1, 0), (0, 2, 0)),
            (backlog(1, 1, 1), (1, 2, 0)),
            (backlog(2, 1, 0), (1, 2, 0)),
            (backlog(1, 1, 1), (1, 2, 0)),
            (backlog(1, 1, 0), (1, 2, 0)),
            (backlog(0, 2, 0), (1, 1, 1)),
        ]);
    }

    #[test]
    fn records_of_an_earlier_start_are_of_no_run() {
        check(&[(backlog(0, 0, 2), (0, 0, 0)), (backlog(1, 0, 2), (0, 1, 0)), (backlog(0, 1, 2), (1, 1, 1))]);
    }

    #[test]
    fn a_record_that_needs_review_counts_until_it_is_discarded() {
        check(&[(backlog(3, 0, 0), (0, 3, 0)), (backlog(0, 2, 1), (3, 3, 2)), (backlog(0, 2, 0), (2, 2, 2))]);
        // One of an earlier run counts if it is sent again.
        check(&[
            (backlog(2, 5, 1), (0, 2, 0)),
            (backlog(1, 6, 1), (1, 2, 1)),
            (backlog(2, 6, 0), (1, 3, 1)),
            (backlog(1, 6, 1), (2, 3, 1)),
            (backlog(0, 7, 1), (3, 3, 2)),
        ]);
    }

    proptest::proptest! {
        #[test]
        fn neither_done_nor_total_decreases_during_a_run(
            steps in proptest::collection::vec((0u64..5, 0u64..5, 0u64..5, 0u64..3, 0u64..3), 1..60),
        ) {
            let (mut progress, mut to_go, mut synced, mut reviews) = (Progress::default(), 1, 0, 0);
            progress.update(&backlog(to_go, synced, reviews));
            let mut before = (progress.done, progress.total);
            for (arrive, settle, refuse, retry, discard) in steps {
                let (settle, retry) = (settle.min(to_go), retry.min(reviews));
                let refuse = refuse.min(to_go - settle);
                let discard = discard.min(reviews - retry);
                to_go = to_go + arrive + retry - settle - refuse;
                synced += settle;
                reviews = reviews + refuse - retry - discard;
                let began = progress.update(&backlog(to_go, synced, reviews));
                let now = (progress.done, progress.total);
                if !began && to_go > 0 {
                    proptest::prop_assert!(now.0 >= before.0 && now.1 >= before.1, "{before:?} → {now:?}");
                }
                proptest::prop_assert!(progress.synced <= now.0 && now.0 <= now.1, "{progress:?}");
                before = now;
            }
        }
    }
}
