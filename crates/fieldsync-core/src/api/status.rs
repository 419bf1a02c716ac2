//! The status of the daemon.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Alert, Caller, Counts, OpenEnum, sequence_text};
use crate::clock::{as_rfc3339, as_rfc3339_option};
use crate::model::{
    BatchId, Blocker, DeniedSet, DeviceId, DiskState, LastError, Link, LinkState, Phase, Sequence, SizeRule,
};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// The id of the device.
    pub device_id: DeviceId,
    /// The name of the device for people.
    #[serde(default)]
    #[schema(required = true)]
    pub device_name: String,
    /// When the daemon started.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: u64,
    /// What the daemon does now.
    pub sync: Sync,
    /// Number of records in each state.
    pub records: Counts,
    /// How full the queue is.
    pub queue: QueueUse,
    /// The size of the next batch, and the reason for it.
    pub batching: Batching,
    /// The circuit breaker.
    pub breaker: BreakerStatus,
    /// The connection to the server.
    pub connectivity: ConnectivityStatus,
    /// Conditions that people should know about.
    #[serde(default)]
    #[schema(required = true)]
    pub alerts: Vec<Alert>,
    /// The user who requests the status. Absent in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// What the daemon does now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sync {
    /// What it does, for programs.
    #[schema(value_type = Phase)]
    pub phase: OpenEnum<Phase>,
    /// A sentence for people.
    pub text: String,
    /// Records settled in this run. Never decreases during a run.
    pub done: u64,
    /// `done` plus the records that still have to be sent. Never decreases during a run.
    pub total: u64,
    /// Records that need review by a person.
    pub needs_review: u64,
    /// Estimated seconds until all is sent.
    #[schema(required = true)]
    pub eta_s: Option<u64>,
    /// The batch in flight.
    #[schema(required = true)]
    pub batch: Option<BatchInFlight>,
    /// When the daemon continues by itself, while it waits; null if a person has to act first.
    #[serde(with = "as_rfc3339_option", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<u64>,
    /// When the server last confirmed a record.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_success_at: Option<u64>,
    /// The last error. Its message is only for admins.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// Batches that are denied while others succeed; at most ten. Their error messages are only for admins.
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
    /// Number of records.
    pub records: usize,
    /// How often it was sent, from 1.
    pub attempt: u32,
}

/// How full the queue is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueUse {
    /// Records that the server has not confirmed.
    #[serde(default)]
    #[schema(required = true)]
    pub records: u64,
    /// Their limit.
    #[serde(default)]
    #[schema(required = true)]
    pub max_records: u64,
    /// Payload bytes of these records.
    pub bytes: u64,
    /// Their limit.
    pub max_bytes: u64,
    /// Disk space of these records, estimated.
    #[serde(default)]
    #[schema(required = true)]
    pub disk_bytes: u64,
    /// Their limit.
    #[serde(default)]
    #[schema(required = true)]
    pub max_disk_bytes: u64,
    /// The largest payload of a record.
    #[serde(default)]
    pub max_record_bytes: u64,
    /// When the oldest waiting record was accepted.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub oldest_pending_at: Option<u64>,
    /// The state of the disk under the queue.
    #[serde(default)]
    #[schema(value_type = DiskState, required = true)]
    pub disk: OpenEnum<DiskState>,
    /// Free bytes on the disk; null if the system does not report them.
    #[serde(default)]
    #[schema(required = true)]
    pub disk_free_bytes: Option<u64>,
    /// Size of the queue's file in bytes.
    #[serde(default)]
    #[schema(required = true)]
    pub file_bytes: u64,
    /// The first records that block later records of their key.
    #[serde(rename = "holding", default)]
    #[schema(required = true)]
    pub blockers: Vec<Blocker>,
}

/// The size of the next batch, and the reason for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Batching {
    /// Number of records.
    pub size: usize,
    /// The rule that decides the size.
    #[schema(value_type = SizeRule)]
    pub rule: OpenEnum<SizeRule>,
    /// Measured time for each record; null before the first response to a batch.
    #[schema(required = true)]
    pub ms_per_record: Option<u64>,
    /// The expected duration of such a batch; null before enough is measured.
    #[serde(default)]
    #[schema(required = true)]
    pub expected_ms: Option<u64>,
    /// The duration that 99 of 100 such batches do not exceed.
    #[serde(default)]
    #[schema(required = true)]
    pub at_most_ms: Option<u64>,
    /// The longest duration that is planned for a batch: the time limit minus the margin, or what the server requests.
    pub time_budget_ms: u64,
    /// The time limit of the gateway in front of the server, as configured or as learned from its 504s.
    #[serde(default)]
    #[schema(required = true)]
    pub time_limit_ms: u64,
}

/// The mode of the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// Batches of the usual sizes.
    Normal,
    /// Micro-batches.
    Micro,
    /// Nothing is sent for a while.
    Open,
    /// One micro-batch is being sent as a test.
    Probing,
}

/// The circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerStatus {
    /// The mode.
    #[schema(value_type = BreakerMode)]
    pub mode: String,
    /// Consecutive failures of batches.
    pub consecutive_failures: u32,
    /// When the next request is allowed, while the breaker is open.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub retry_at: Option<u64>,
}

/// The connection to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Connectivity)]
pub struct ConnectivityStatus {
    /// The state.
    #[schema(value_type = LinkState)]
    pub state: OpenEnum<LinkState>,
    /// When this state began.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: u64,
    /// Whether the network is metered.
    pub metered: bool,
}

impl From<Link> for ConnectivityStatus {
    fn from(link: Link) -> Self {
        Self { state: link.state.into(), since: link.since, metered: link.metered.unwrap_or_default() }
    }
}
