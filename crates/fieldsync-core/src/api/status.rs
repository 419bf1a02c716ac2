//! The status of the daemon.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Alert, Caller, OpenEnum, sequence_text};
use crate::clock::{as_rfc3339, as_rfc3339_option};
use crate::model::{
    BatchId, Blocker, DeniedSet, DeviceId, DiskState, LastError, Link, LinkState, Phase, Sequence, SizeRule,
};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// Of the device.
    pub device_id: DeviceId,
    /// Of the daemon.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: u64,
    /// What it does now.
    pub sync: Sync,
    /// Counts by state.
    pub records: Counts,
    /// How full the queue is.
    pub queue: QueueUse,
    /// How large the next batch would be, and why.
    pub batching: Batching,
    /// How the server is treated.
    pub breaker: BreakerStatus,
    /// The way to the server.
    pub connectivity: ConnectivityStatus,
    /// What people should know without asking.
    #[serde(default)]
    #[schema(required = true)]
    pub alerts: Vec<Alert>,
    /// The user who asks. Events do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// What the daemon does now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sync {
    /// In a word.
    pub phase: Phase,
    /// In a sentence for people.
    pub text: String,
    /// Records settled in this run. Never falls during a run.
    pub done: u64,
    /// `done` and what is still to go. Never falls during a run.
    pub total: u64,
    /// Records that a person has to look at.
    pub needs_review: u64,
    /// Estimated seconds until all is sent.
    #[schema(required = true)]
    pub eta_s: Option<u64>,
    /// The batch in flight.
    #[schema(required = true)]
    pub batch: Option<BatchInFlight>,
    /// When the daemon goes on by itself, while it waits; null when a person has to act first.
    #[serde(with = "as_rfc3339_option", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<u64>,
    /// When the server last confirmed a record.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_success_at: Option<u64>,
    /// What went wrong last. Its message is for admins.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// Batches that are denied while others get through; the first ten. The messages of their errors are for admins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<DeniedSet>,
}

/// The batch in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchInFlight {
    /// Its id.
    pub id: BatchId,
    /// `i/N`
    #[serde(with = "sequence_text")]
    #[schema(value_type = String, pattern = r"^\d+/\d+$")]
    pub sequence: Sequence,
    /// How many records.
    pub records: usize,
    /// How often it was sent.
    pub attempt: u32,
}

/// Counts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Queued for sync.
    pub pending: u64,
    /// In a batch that is being transmitted.
    pub syncing: u64,
    /// Met an error, and will be tried again.
    pub failed: u64,
    /// Confirmed by the server; receipts that are still kept.
    pub synced: u64,
    /// Set aside for review.
    pub quarantined: u64,
}

/// How full the queue is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueUse {
    /// Records that are not confirmed.
    #[serde(default)]
    #[schema(required = true)]
    pub records: u64,
    /// The limit.
    #[serde(default)]
    #[schema(required = true)]
    pub max_records: u64,
    /// Payload bytes that are not confirmed.
    pub bytes: u64,
    /// The limit.
    pub max_bytes: u64,
    /// What the records that are not confirmed take on the disk, estimated.
    #[serde(default)]
    #[schema(required = true)]
    pub disk_bytes: u64,
    /// The limit.
    #[serde(default)]
    #[schema(required = true)]
    pub max_disk_bytes: u64,
    /// The limit of one payload.
    #[serde(default)]
    pub max_record_bytes: u64,
    /// When the oldest waiting record was accepted.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub oldest_pending_at: Option<u64>,
    /// How the disk under the queue does.
    #[serde(default)]
    #[schema(required = true)]
    pub disk: DiskState,
    /// Bytes that may still be written; null when the system does not say.
    #[serde(default)]
    #[schema(required = true)]
    pub disk_free_bytes: Option<u64>,
    /// Bytes of disk that the queue takes.
    #[serde(default)]
    #[schema(required = true)]
    pub file_bytes: u64,
    /// The first records that hold back later ones of their key.
    #[serde(rename = "holding", default)]
    #[schema(required = true)]
    pub blockers: Vec<Blocker>,
}

/// How large the next batch would be, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Batching {
    /// In records.
    pub size: usize,
    /// Which rule decides.
    #[schema(value_type = SizeRule)]
    pub rule: OpenEnum<SizeRule>,
    /// Measured time per record, once a batch was answered.
    #[schema(required = true)]
    pub ms_per_record: Option<u64>,
    /// What such a batch is expected to take, once that can be said.
    #[serde(default)]
    #[schema(required = true)]
    pub expected_ms: Option<u64>,
    /// One such batch in 100 takes longer.
    #[serde(default)]
    #[schema(required = true)]
    pub at_most_ms: Option<u64>,
    /// What a batch may be expected to take: the time limit less the margin, or the server's own wish.
    pub time_budget_ms: u64,
    /// The time limit in front of the server, as configured or as learned from its 504s.
    #[serde(default)]
    #[schema(required = true)]
    pub time_limit_ms: u64,
}

/// How the server is treated, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// Batches of the usual sizes.
    Normal,
    /// Micro-batches.
    Micro,
    /// Nothing for a while.
    Open,
    /// One micro-batch is under way.
    Probing,
}

/// How the server is treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerStatus {
    /// In a word.
    #[schema(value_type = BreakerMode)]
    pub mode: String,
    /// Batch failures in a row.
    pub consecutive_failures: u32,
    /// When the next request may go, while open.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub retry_at: Option<u64>,
}

/// The way to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Connectivity)]
pub struct ConnectivityStatus {
    /// In a word.
    #[schema(value_type = LinkState)]
    pub state: OpenEnum<LinkState>,
    /// Since when.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: u64,
    /// Whether traffic is paid for.
    pub metered: bool,
}

impl From<Link> for ConnectivityStatus {
    fn from(link: Link) -> Self {
        Self { state: link.state.into(), since: link.since, metered: link.metered.unwrap_or_default() }
    }
}
