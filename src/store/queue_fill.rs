//! How full the queue is: the limit of which the largest share is used, of the whole queue or of one user.

use super::QueueLimits;
use crate::config::Config;
use crate::model::{Backlog, OTHER_SUBMITTERS};
use crate::policy::advice::FullQueue;
use crate::policy::alerts::facts::QueueFacts;
use crate::user_name::user_name;

/// How much of one limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFill {
    /// The configuration key of the limit.
    key: &'static str,
    unit: &'static str,
    used: u64,
    limit: u64,
    /// How much a record takes, on average.
    used_by_record: u64,
    /// The user (uid) whose share of the limit this is; none for the whole queue.
    submitter: Option<u32>,
}

/// Unconfirmed records, their bytes, and their disk space.
type Usage = [u64; 3];

impl QueueFill {
    /// A limit that is reached, or else the one of which the largest share is used. The whole queue comes before its
    /// users.
    pub(crate) fn fullest(backlog: &Backlog, config: &Config) -> Self {
        let limits = QueueLimits::from(config);
        let whole = [backlog.to_go() + backlog.quarantined, backlog.bytes, backlog.disk_bytes];
        let mut fullest = Self::of_usage(whole, &limits, None);
        for (&uid, counts) in backlog.by_submitter.iter() {
            let may_use_all = limits.share_of(uid, limits.max_bytes) == limits.max_bytes;
            if may_use_all || uid == OTHER_SUBMITTERS {
                continue;
            }
            let records = counts.pending + counts.syncing + counts.failed + counts.quarantined;
            let own = Self::of_usage([records, counts.bytes, counts.disk_bytes], &limits, Some(uid));
            if own.rank() > fullest.rank() {
                fullest = own;
            }
        }
        fullest
    }

    fn of_usage([records, bytes, disk_bytes]: Usage, limits: &QueueLimits, submitter: Option<u32>) -> Self {
        let fill = |key, unit, used: u64, limit| Self {
            key,
            unit,
            used,
            limit: submitter.map_or(limit, |uid| limits.share_of(uid, limit)),
            used_by_record: used.checked_div(records).unwrap_or(0).max(1),
            submitter,
        };
        let by_records = fill("queue.max_records", "records", records, limits.max_records);
        let others = [
            fill("queue.max_bytes", "bytes", bytes, limits.max_bytes),
            fill("queue.max_disk_bytes", "bytes of disk (estimated)", disk_bytes, limits.max_disk_bytes),
        ];
        others
            .into_iter()
            .fold(by_records, |most, other| if other.rank() > most.rank() { other } else { most })
    }

    /// A limit that is reached comes first, then the used share in parts of ten thousand.
    fn rank(&self) -> (bool, u64) {
        (self.is_full(), self.used.saturating_mul(10_000) / self.limit.max(1))
    }

    /// Whether one more record of the average size is refused.
    fn is_full(&self) -> bool {
        self.used.saturating_add(self.used_by_record) > self.limit
    }

    /// What the alert is judged from.
    pub(crate) fn to_facts(self) -> QueueFacts {
        QueueFacts { used: self.used, limit: self.limit, is_full: self.is_full(), message: self.describe() }
    }

    /// The limit, if it is reached.
    pub(crate) fn full_queue(&self) -> Option<FullQueue> {
        self.is_full().then(|| FullQueue { key: self.key, user: self.submitter.map(user_name) })
    }

    /// The message of the alert. It has the number of the user: a look-up of the name may wait for the network, and the
    /// message is also sent to collectors.
    fn describe(&self) -> String {
        let Self { key, unit, used, limit, submitter, .. } = *self;
        let full = match submitter {
            None => format!("; the queue is full ({key}): no new records are taken"),
            Some(_) => "; its new records are refused".to_owned(),
        };
        let full = if self.is_full() { full } else { String::new() };
        match submitter {
            None => format!("the queue holds {used} of at most {limit} {unit}{full}"),
            Some(uid) => format!(
                "the user with uid {uid} has {used} of at most {limit} {unit} in the queue (queue.max_user_share of {key}){full}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::SubmitterCounts;

    /// A uid that is neither root's nor the daemon's own.
    const APP: u32 = 4_000_000;

    fn config() -> Config {
        let mut config = Config::default();
        (config.queue.max_records, config.queue.max_bytes.0) = (100, 10_000);
        config.queue.max_disk_bytes.0 = 1_000_000;
        config
    }

    #[test]
    fn the_fullest_limit_counts_and_a_reached_one_comes_first() {
        for (pending, bytes, disk_bytes, message, is_full) in [
            (80, 100, 100, "80 of at most 100 records", false),
            (80, 9000, 100, "9000 of at most 10000 bytes", false),
            (80, 9000, 990_000, "990000 of at most 1000000 bytes of disk (estimated)", true),
            (100, 9000, 100, "100 of at most 100 records; the queue is full (queue.max_records)", true),
            // Another record of 1,000 bytes does not fit.
            (9, 9001, 100, "bytes; the queue is full (queue.max_bytes): no new records are taken", true),
            (9, 9000, 100, "9000 of at most 10000 bytes", false),
        ] {
            let backlog = Backlog { pending, bytes, disk_bytes, ..Backlog::default() };
            let fill = QueueFill::fullest(&backlog, &config());
            assert!(fill.describe().contains(message), "{}", fill.describe());
            assert_eq!(fill.full_queue().is_some(), is_full, "{}", fill.describe());
        }
    }

    #[test]
    fn a_user_who_has_used_its_share_is_named() {
        for (pending, quarantined, expected) in [(74, 0, None), (74, 1, Some("4000000"))] {
            let counts = SubmitterCounts { pending, quarantined, ..SubmitterCounts::default() };
            let by_submitter = BTreeMap::from([(APP, counts), (0, SubmitterCounts::default())]);
            let backlog =
                Backlog { pending, quarantined, by_submitter: by_submitter.into(), ..Backlog::default() };
            let fill = QueueFill::fullest(&backlog, &config());
            let user = fill.full_queue().map(|full| full.user.unwrap_or_default());
            assert_eq!(user.is_some(), expected.is_some(), "{}", fill.describe());
            assert!(user.unwrap_or_default().contains(expected.unwrap_or_default()));
            assert!(fill.describe().contains("of at most 75 records in the queue"), "{}", fill.describe());
        }
    }
}
