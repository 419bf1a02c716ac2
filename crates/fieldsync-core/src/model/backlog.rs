//! The backlog of the store, and the state of its disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RecordId, RecordState};

/// A record that blocks later records of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Holder)]
pub struct Blocker {
    /// The record.
    pub id: RecordId,
    /// Its ordering key; null for callers that are neither its submitter nor an admin.
    #[schema(required = true)]
    pub key: Option<String>,
    /// The user (uid) who submitted it.
    #[serde(default)]
    #[schema(required = true)]
    pub submitter: u32,
    /// FAILED, QUARANTINED, or SYNCING after a failure.
    pub state: RecordState,
    /// How many records it blocks. 1000 means 1000 or more.
    #[serde(rename = "holds")]
    pub blocked_count: u64,
}

/// The state of the disk under the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// It works, and has room.
    #[default]
    Ok,
    /// It has no room: no records are accepted, but those in the queue are sent.
    Full,
    /// It reports errors: no records are accepted or sent.
    Failing,
}

/// The most users with counts of their own: every commit writes the counts.
pub const SUBMITTERS_MAX: usize = 64;
/// All users beyond [`SUBMITTERS_MAX`]. No user has this uid.
pub const OTHER_SUBMITTERS: u32 = u32::MAX;

/// The records of one user in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitterCounts {
    /// Waiting, without those in flight.
    pub pending: u64,
    /// In a batch that is being sent.
    pub syncing: u64,
    /// Failed, and will be sent again.
    pub failed: u64,
    /// Confirmed, with a receipt that is still kept.
    pub synced: u64,
    /// Under review.
    pub quarantined: u64,
    /// Payload bytes of the records that are not confirmed.
    pub bytes: u64,
    /// The estimated disk usage of the records that are not confirmed.
    pub disk_bytes: u64,
}

/// A pause of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The user (uid) who asked for it.
    pub by: u32,
    /// Since when, in wall milliseconds.
    pub since: u64,
    /// When it ends by itself, in wall milliseconds.
    pub until: Option<u64>,
}

/// The backlog of the store; published after every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Waiting, without those in flight.
    pub pending: u64,
    /// In a batch that is being sent.
    pub syncing: u64,
    /// Failed, and will be sent again.
    pub failed: u64,
    /// Confirmed, with a receipt that is still kept.
    pub synced: u64,
    /// Under review.
    pub quarantined: u64,
    /// Payload bytes of the records that are not confirmed.
    pub bytes: u64,
    /// The estimated disk usage of the records that are not confirmed.
    pub disk_bytes: u64,
    /// The same by submitter (uid), for users that have records or receipts. With more than
    /// [`SUBMITTERS_MAX`] of them, the last ones are counted together under [`OTHER_SUBMITTERS`].
    pub by_submitter: Arc<BTreeMap<u32, SubmitterCounts>>,
    /// Records accepted since the daemon started.
    pub accepted_total: u64,
    /// Records settled (synced, quarantined or discarded) since the daemon started.
    pub settled_total: u64,
    /// Records synced since the daemon started.
    pub synced_total: u64,
    /// Records quarantined since the daemon started.
    pub quarantined_total: u64,
    /// Records discarded since the daemon started.
    pub discarded_total: u64,
    /// When the oldest record that is neither confirmed nor under review was accepted, in wall milliseconds.
    pub oldest_pending_at: Option<u64>,
    /// When the first FAILED record is due, in steady milliseconds.
    pub next_due_at: Option<u64>,
    /// Whether a claim may find a record; false after a claim found all of them blocked by earlier records of their
    /// keys.
    pub claimable: bool,
    /// Sending is paused on request.
    pub paused: bool,
    /// Who paused it and when, if that is known.
    pub pause: Option<Pause>,
    /// The first records that block others.
    pub blockers: Vec<Blocker>,
    /// The disk and the file on it.
    pub storage: Storage,
}

/// The disk under the queue, and the file on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// The state of the disk.
    pub disk: DiskState,
    /// Size of the file on disk, in bytes.
    pub file_bytes: u64,
    /// Free bytes on the disk; none if the system does not report them.
    pub disk_free_bytes: Option<u64>,
    /// Damage that is not acknowledged yet, the oldest first.
    pub damage: Vec<Damage>,
}

/// A damaged file, and how many of its records were saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Damage {
    /// When it was found.
    #[serde(with = "crate::clock::as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub found_at: u64,
    /// Where the damaged file is kept.
    pub kept_as: String,
    /// What was wrong with the file.
    pub reason: String,
    /// Records that were read and are in the queue again.
    pub salvaged: u64,
    /// Records that were in the file but could not be read.
    pub lost: u64,
}

impl Backlog {
    /// Records that are neither confirmed nor under review.
    pub fn to_go(&self) -> u64 {
        self.pending + self.syncing + self.failed
    }
}
