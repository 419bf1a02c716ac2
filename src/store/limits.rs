//! The limits of the queue, in all and by user.

use std::fmt;

use nix::unistd::geteuid;

use super::counters::{Counters, SubmitterUsage};
use crate::config::Config;

/// The limits of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Unsettled records.
    pub max_records: u64,
    /// Their payload bytes.
    pub max_bytes: u64,
    /// Their estimated disk space.
    pub max_disk_bytes: u64,
    /// The share of these three limits that one user may use.
    pub user_share: f64,
    /// The daemon's own user. Like root, it may use all of the queue.
    pub own_uid: u32,
    /// Payload bytes of one record.
    pub max_record_bytes: u64,
    /// How long receipts are kept, in milliseconds.
    pub keep_synced_ms: u64,
    /// Bytes reserved for settling records on a full disk.
    pub disk_reserve: u64,
}

impl From<&Config> for QueueLimits {
    fn from(config: &Config) -> Self {
        Self {
            max_records: config.queue.max_records,
            max_bytes: config.queue.max_bytes.0,
            max_disk_bytes: config.queue.max_disk_bytes.0,
            user_share: config.queue.max_user_share,
            own_uid: geteuid().as_raw(),
            max_record_bytes: config.queue.max_record_bytes.0,
            keep_synced_ms: crate::clock::millis(config.queue.keep_synced.0),
            disk_reserve: config.queue.disk_reserve.0,
        }
    }
}

impl QueueLimits {
    /// The part of a limit that one user may use.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is not exact, and `as` stays within bounds"
    )]
    pub fn share_of(&self, submitter: u32, limit: u64) -> u64 {
        if submitter == 0 || submitter == self.own_uid {
            return limit;
        }
        ((limit as f64 * self.user_share) as u64).clamp(1, limit.max(1))
    }
}

/// A limit of the queue that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// Its configuration key.
    pub key: &'static str,
    /// Whether the user's share is used up, not the whole limit.
    pub is_share: bool,
}

impl LimitReached {
    /// What people can do besides waiting.
    pub(super) fn remedy_text(self) -> &'static str {
        if self.is_share { "ask an admin to raise the share or the limit" } else { "raise the limit" }
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key;
        if self.is_share {
            write!(
                f,
                "the records of this user fill the share of the queue that one user may use \
                 (queue.max_user_share of {key})"
            )
        } else {
            write!(f, "the queue is full ({key})")
        }
    }
}

impl QueueLimits {
    /// The limit that a user would exceed with these additional records.
    pub(super) fn limit_reached_by(
        &self,
        counters: &Counters,
        submitter: u32,
        added: &SubmitterUsage,
    ) -> Option<LimitReached> {
        let own = counters.submitters.usage_of(submitter);
        let checks = [
            (
                "queue.max_records",
                self.max_records,
                counters.records.unsettled_count(),
                own.records.unsettled_count(),
                added.records.unsettled_count(),
            ),
            (
                "queue.max_bytes",
                self.max_bytes,
                counters.records.bytes,
                own.records.bytes,
                added.records.bytes,
            ),
            (
                "queue.max_disk_bytes",
                self.max_disk_bytes,
                counters.submitters.disk_bytes(),
                own.disk_bytes,
                added.disk_bytes,
            ),
        ];
        let passed = |is_total: bool| {
            let found = checks.iter().find(|(_, limit, used, own, added)| {
                let (limit, used) =
                    if is_total { (*limit, *used) } else { (self.share_of(submitter, *limit), *own) };
                *added > 0 && used.saturating_add(*added) > limit
            });
            found.map(|(key, ..)| LimitReached { key, is_share: !is_total })
        };
        passed(true).or_else(|| passed(false))
    }
}
