//! The nouns that the rooms of the daemon share. No behaviour beyond what the types themselves mean.

mod link;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::policy::sizing::SizeRule;
pub use link::{Deferral, InterfaceKind, Link, LinkState};

/// The priority of a record that names none; 9 goes first, 0 last.
pub const DEFAULT_PRIORITY: u8 = 5;
/// The highest priority.
pub const MAX_PRIORITY: u8 = 9;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id_type! {
    /// Names a record for ever, on the device and at the server. Any UUID; version 7 is kindest to the store.
    RecordId
}
id_type! {
    /// Names one set of records on the wire (UUID v4). The same on every resend of the same set.
    BatchId
}
id_type! {
    /// Names the device (UUID v4), made at its first start and kept.
    DeviceId
}

impl RecordId {
    /// A new id, ordered by time.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for RecordId {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchId {
    /// A new random id.
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl Default for BatchId {
    fn default() -> Self {
        Self::new()
    }
}

/// A record's place in the queue: by priority, highest first, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(pub u64);

impl Place {
    const PRIORITY_SHIFT: u32 = 56;

    /// The place of the `seq`-th record to arrive (`seq` below 2^56).
    pub fn new(priority: u8, seq: u64) -> Self {
        let class = u64::from(MAX_PRIORITY.saturating_sub(priority));
        Self(class << Self::PRIORITY_SHIFT | seq)
    }

    /// The order of arrival, counted from 1 over the life of the store.
    pub fn seq(self) -> u64 {
        self.0 & ((1 << Self::PRIORITY_SHIFT) - 1)
    }

    /// 0 to 9, 9 goes first.
    pub fn priority(self) -> u8 {
        let class = u8::try_from(self.0 >> Self::PRIORITY_SHIFT).unwrap_or(MAX_PRIORITY);
        MAX_PRIORITY.saturating_sub(class)
    }
}

/// The five states of a record, as people and the API name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecordState {
    /// Queued for sync.
    Pending,
    /// In a batch that is being transmitted.
    Syncing,
    /// Confirmed by the server.
    Synced,
    /// Met an error, and will be tried again.
    Failed,
    /// Set aside for a person to review.
    Quarantined,
}

impl RecordState {
    /// The name in the API and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Syncing => "SYNCING",
            Self::Synced => "SYNCED",
            Self::Failed => "FAILED",
            Self::Quarantined => "QUARANTINED",
        }
    }
}

impl FromStr for RecordState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Pending, Self::Syncing, Self::Synced, Self::Failed, Self::Quarantined]
            .into_iter()
            .find(|state| state.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                format!("`{text}` is no state: use PENDING, SYNCING, SYNCED, FAILED or QUARANTINED")
            })
    }
}

/// A record as an application hands it over, checked.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// The application's id, or one made on arrival.
    pub id: RecordId,
    /// What kind of record it is, for example `Visits`.
    pub record_type: String,
    /// Records of one key go out in order.
    pub key: Option<String>,
    /// 0 to 9, 9 goes first.
    pub priority: u8,
    /// The JSON object, byte for byte.
    pub payload: Box<str>,
}

/// Why a record was not delivered the last time it was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The class of failure, for example `timeout` or `rejected`.
    pub class: String,
    /// The status of the server's answer, when there was one.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// The server's or the daemon's code.
    #[schema(required = true)]
    pub code: Option<String>,
    /// For people. Empty for callers that may not see it: it may quote the record.
    pub message: String,
    /// When.
    #[serde(with = "crate::clock::as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: u64,
}

/// What the manifest knows of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManifestEntry {
    /// The record.
    pub id: RecordId,
    /// Order of arrival.
    pub seq: u64,
    /// What kind of record it is.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Its ordering key. Null, too, for callers that are neither its submitter nor an admin.
    #[schema(required = true)]
    pub key: Option<String>,
    /// 0 to 9, 9 goes first.
    pub priority: u8,
    /// Where it stands.
    pub state: RecordState,
    /// How often it was sent.
    pub attempts: u32,
    /// Size of the payload.
    pub payload_bytes: u64,
    /// The user (uid) that handed it over.
    #[serde(default)]
    #[schema(required = true)]
    pub submitter: u32,
    /// When it was accepted.
    #[serde(with = "crate::clock::as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: u64,
    /// When its state last changed.
    #[serde(with = "crate::clock::as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: u64,
    /// When it is due again, when it waits for a time.
    #[serde(with = "crate::clock::as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<u64>,
    /// The batch that it is in, or was in last.
    #[schema(required = true)]
    pub batch_id: Option<BatchId>,
    /// Why it was not delivered. Its message is for its submitter and admins.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// The record that holds it back: an earlier one of its key that failed or is under review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<RecordId>,
    /// How many later records of its key it holds back, when it does; 1000 stands for at least as many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub holds: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A record that holds back later ones of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The record.
    pub id: RecordId,
    /// Its ordering key; null for callers that are neither its submitter nor an admin.
    #[schema(required = true)]
    pub key: Option<String>,
    /// The user (uid) that handed it over.
    #[serde(default)]
    #[schema(required = true)]
    pub submitter: u32,
    /// FAILED, QUARANTINED, or SYNCING after a failure.
    pub state: RecordState,
    /// How many it holds back; 1000 stands for at least as many.
    pub holds: u64,
}

/// How the disk under the queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// Well.
    #[default]
    Ok,
    /// No room: records on their way go on, new ones are refused.
    Full,
    /// It gives errors: nothing is taken in and nothing is sent.
    Failing,
}

/// `i/N`: the i-th of the N batches now planned for this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// From 1.
    pub index: u32,
    /// At least `index`.
    pub total: u32,
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.total)
    }
}

/// How far the search for a culprit has come with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Taken from the queue; nothing is held against it.
    Fresh,
    /// Half of a batch that failed.
    Half,
    /// A micro-batch of a half that failed.
    Micro,
    /// One record of a micro-batch that failed.
    Single,
}

/// A record in a batch, with what is needed to send it and to decide about it.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// The record.
    pub id: RecordId,
    /// What kind of record it is.
    pub record_type: String,
    /// Its ordering key.
    pub key: Option<String>,
    /// When it was accepted, in wall milliseconds.
    pub created_at: u64,
    /// The JSON object, byte for byte.
    pub payload: Box<str>,
}

/// A batch that is on disk and may be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the planner needs to know of it.
    pub open: OpenBatch,
    /// `i/N`, fixed at its first send.
    pub sequence: Sequence,
    /// The records, in queue order.
    pub records: Vec<BatchRecord>,
}

/// A batch on disk that is not settled: in flight, unclear, or waiting to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBatch {
    /// The batch.
    pub id: BatchId,
    /// The batch that it was split from.
    pub parent: Option<BatchId>,
    /// How far the search has come.
    pub stage: Stage,
    /// Why it has its size.
    pub rule: SizeRule,
    /// The place of its first record.
    pub place: Place,
    /// How many records.
    pub records: usize,
    /// Sum of the payloads.
    pub bytes: u64,
    /// How often it was sent under this id.
    pub attempt: u32,
    /// Counted failures of a record alone, while others got through around it.
    pub lone_failures: u32,
    /// What is known of its last send.
    pub phase: BatchPhase,
}

/// What is known of a batch's last send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchPhase {
    /// It may be under way.
    InFlight,
    /// It failed, and perhaps the server has it all the same.
    Unclear,
    /// The server does not have it: it waits to be sent.
    Waiting,
}

/// What the daemon does now, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing to send.
    Idle,
    /// Sending.
    Syncing,
    /// Backing off.
    Waiting,
    /// The server cannot be reached.
    Offline,
    /// On request.
    Paused,
    /// Until a better link or more charge.
    Deferred,
    /// The server does not let us in.
    AuthRequired,
    /// The configuration leads nowhere.
    Misconfigured,
}

/// Users whose records are counted one by one: the counts are written in every commit.
pub const SUBMITTERS_MAX: usize = 64;
/// Stands for all users beyond [`SUBMITTERS_MAX`]; no user has this uid.
pub const OTHER_SUBMITTERS: u32 = u32::MAX;

/// What the store holds of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitterCounts {
    /// Plainly waiting, those in flight left out.
    pub pending: u64,
    /// In a batch that is being transmitted.
    pub syncing: u64,
    /// Met an error, and will be tried again.
    pub failed: u64,
    /// Confirmed, with a receipt that is still kept.
    pub synced: u64,
    /// Set aside for review.
    pub quarantined: u64,
    /// Payload bytes of all that is not confirmed.
    pub bytes: u64,
    /// What all that is not confirmed takes on the disk, estimated.
    pub disk_bytes: u64,
}

/// What waits in the store; published after every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Plainly waiting, those in flight left out.
    pub pending: u64,
    /// In a batch that is being transmitted.
    pub syncing: u64,
    /// Met an error, and will be tried again.
    pub failed: u64,
    /// Confirmed, with a receipt that is still kept.
    pub synced: u64,
    /// Set aside for review.
    pub quarantined: u64,
    /// Payload bytes of all that is not confirmed.
    pub bytes: u64,
    /// What all that is not confirmed takes on the disk, estimated.
    pub disk_bytes: u64,
    /// The same by the user (uid) that handed it over: users that have records or receipts. With more than
    /// [`SUBMITTERS_MAX`] of them, the last ones are counted together under [`OTHER_SUBMITTERS`].
    pub by_submitter: Arc<BTreeMap<u32, SubmitterCounts>>,
    /// Records settled (synced, quarantined or discarded) since the daemon started.
    pub settled_total: u64,
    /// Records synced since the daemon started.
    pub synced_total: u64,
    /// When the oldest record that is not confirmed or quarantined was accepted, wall milliseconds.
    pub oldest_pending_at: Option<u64>,
    /// When the first FAILED record that waits for a time is due, steady milliseconds.
    pub next_due_at: Option<u64>,
    /// Whether a claim may find a record; false once one found all of them held by a key.
    pub claimable: bool,
    /// People asked the daemon to stay quiet.
    pub paused: bool,
    /// The first records that hold others back.
    pub holders: Vec<Holder>,
    /// The disk and the file on it.
    pub storage: Storage,
}

/// The disk under the queue, and the file on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// How the disk does.
    pub disk: DiskState,
    /// Bytes of disk that the file takes.
    pub file_bytes: u64,
    /// Bytes that may still be written; unknown where the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// Damage that was found and that nobody has acknowledged yet, the oldest first.
    pub damage: Vec<Damage>,
}

/// A damaged file, and what became of its records.
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
    /// Records that could be read, and are in the queue again.
    pub salvaged: u64,
    /// Records that are known to have been there and could not be read.
    pub lost: u64,
}

impl Backlog {
    /// What is still to go: everything that is neither confirmed nor under review.
    pub fn to_go(&self) -> u64 {
        self.pending + self.syncing + self.failed
    }
}
