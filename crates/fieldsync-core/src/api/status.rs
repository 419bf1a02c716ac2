//! The status of the daemon.

use serde::{Deserialize, Serialize};
use strum::{Display, VariantArray};
use utoipa::ToSchema;

use super::{Alert, Caller, Counts, OpenEnum, sequence_text};
use crate::clock::{as_rfc3339, as_rfc3339_option};
use crate::model::{
    BatchId, Blocker, DeniedSet, DeviceId, DiskState, InFlightRule, LastError, Link, LinkState, Phase,
    Sequence, SizeRule,
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
    /// The size of the next batch, how many batches may be under way, and the reasons.
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
    /// What is going on, for programs: more exact than the phase. Newer versions may have other reasons.
    #[serde(default = "unknown_reason")]
    #[schema(value_type = SyncReason, required = true)]
    pub reason: OpenEnum<SyncReason>,
    /// A sentence for people: what is going on, and why.
    pub text: String,
    /// What a person can do about it; null if there is nothing to do.
    #[serde(default)]
    #[schema(required = true)]
    pub remedy: Option<String>,
    /// Since when records are not sent: the first failure of this outage, or the beginning of the pause; else null.
    #[serde(with = "as_rfc3339_option", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<u64>,
    /// Records settled in this run: synced, or in need of review. Never decreases during a run. Once it has ended,
    /// discarded records are not in it.
    pub done: u64,
    /// `done` plus the records that still have to be sent. Never decreases during a run.
    pub total: u64,
    /// Records that need review by a person.
    pub needs_review: u64,
    /// Estimated seconds until all is sent.
    #[schema(required = true)]
    pub eta_s: Option<u64>,
    /// The batch in flight; of several, the one that was sent first.
    #[schema(required = true)]
    pub batch: Option<BatchInFlight>,
    /// The batches in flight, in the order in which they were sent.
    #[serde(default)]
    #[schema(required = true)]
    pub batches: Vec<BatchInFlight>,
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

impl Sync {
    /// The sentence and what to do, on one line.
    pub fn line(&self) -> String {
        let Self { text, remedy, .. } = self;
        match remedy {
            Some(remedy) if text.ends_with('.') => format!("{text} To do: {remedy}"),
            Some(remedy) => format!("{text}. To do: {remedy}"),
            None => text.clone(),
        }
    }
}

/// A daemon before 0.3 sends no reason.
fn unknown_reason() -> OpenEnum<SyncReason> {
    OpenEnum::Unknown(String::new())
}

/// What is going on: the phase, and the cause of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, VariantArray, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SyncReason {
    /// All records are synced, or there are none.
    NothingToSend,
    /// Some records need review, and no others wait.
    NeedsReview,
    /// Records are being sent.
    Sending,
    /// A batch was sent, and the server has not responded for some seconds.
    AwaitingResponse,
    /// Nothing listens at the server's address, or it does not respond.
    ServerDown,
    /// The name of the server cannot be resolved.
    NameUnknown,
    /// The network has no route to the server.
    NoRoute,
    /// This device has no network.
    NoNetwork,
    /// No encrypted connection to the server can be made.
    Tls,
    /// The clock of this device is wrong: the server's certificate seems to be of the future.
    ClockWrong,
    /// The proxy does not respond, or does not let the connection through.
    Proxy,
    /// A login page of the network, or another site, responds in place of the server.
    LoginPage,
    /// The server asks to come back later.
    ServerBusy,
    /// The server failed.
    ServerFailed,
    /// The server refuses every batch.
    Refused,
    /// The server did not respond in time.
    NoResponse,
    /// The connection was lost, or is too slow.
    ConnectionLost,
    /// Another failure; it is tried again.
    Retry,
    /// Records wait for an earlier one of their key that needs review.
    Held,
    /// An admin paused sending.
    Paused,
    /// The network is metered.
    Metered,
    /// The battery is low.
    Battery,
    /// The server does not accept the token or the certificate, or they cannot be used.
    AuthRequired,
    /// No server is configured.
    NoServer,
    /// The configuration cannot be used, or nothing takes records at the server's address.
    Misconfigured,
    /// The disk under the queue is full.
    DiskFull,
    /// The disk under the queue has errors.
    DiskFailing,
}

impl SyncReason {
    /// All reasons of this version.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
}

/// A batch in flight.
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
    /// When it was sent.
    #[serde(with = "as_rfc3339", default)]
    #[schema(value_type = String, format = DateTime, required = true)]
    pub sent_at: u64,
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

/// The size of the next batch, how many batches may be under way, and the reasons.
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
    /// Batches under way: they were sent, and neither a response nor an outcome is known.
    #[serde(default)]
    #[schema(required = true)]
    pub in_flight: usize,
    /// How many batches may be under way at once now.
    #[serde(default)]
    #[schema(required = true)]
    pub in_flight_limit: usize,
    /// The rule that decides how many.
    #[serde(default)]
    #[schema(value_type = InFlightRule, required = true)]
    pub in_flight_rule: OpenEnum<InFlightRule>,
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
