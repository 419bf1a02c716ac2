//! Progress in records.

use crate::model::Backlog;

/// The progress of a run, which lasts from the first waiting record until none is left.
///
/// Neither `done` nor `total` decreases during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    active: bool,
    settled_before: u64,
    synced_before: u64,
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
                settled_before: backlog.settled_total,
                synced_before: backlog.synced_total,
                ..Self::default()
            };
        }
        if self.active {
            self.done = self.done.max(backlog.settled_total - self.settled_before);
            self.synced = backlog.synced_total - self.synced_before;
            self.total = self.total.max(self.done + to_go);
            self.active = to_go > 0;
        }
        if !self.active {
            self.total = self.done;
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(pending: u64, settled: u64, quarantined: u64) -> Backlog {
        Backlog {
            pending,
            quarantined,
            settled_total: settled,
            synced_total: settled - quarantined,
            ..Backlog::default()
        }
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

    proptest::proptest! {
        #[test]
        fn neither_done_nor_total_decreases_during_a_run(
            steps in proptest::collection::vec((0u64..5, 0u64..5), 1..60),
        ) {
            let (mut progress, mut to_go, mut settled) = (Progress::default(), 1, 0);
            progress.update(&backlog(to_go, settled, 0));
            let mut before = (progress.done, progress.total);
            for (arrive, settle) in steps {
                let settle = settle.min(to_go);
                to_go = to_go + arrive - settle;
                settled += settle;
                let began = progress.update(&backlog(to_go, settled, 0));
                let now = (progress.done, progress.total);
                if !began {
                    proptest::prop_assert!(now.0 >= before.0 && now.1 >= before.1, "{before:?} → {now:?}");
                }
                before = now;
            }
        }
    }
}
