//! The local API as Rust types, shared by the daemon and the command line. Names and shapes are promises.

pub mod batch_reasons;
mod caller;
mod event_data;
mod open_enum;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod submission;
mod telemetry;
mod waiting;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strum::{Display, IntoStaticStr};
use utoipa::ToSchema;

use crate::clock::{as_rfc3339, as_rfc3339_option};
pub use crate::model::Phase;
use crate::model::{
    BatchId, Damage, DeniedSet, DeviceId, DiskState, Holder, LastError, Link, LinkState, ManifestEntry,
    RecordId, Sequence, SizeRule,
};
pub use caller::{Caller, CallerQueue};
pub use event_data::{BreakerChange, Gap, GapReason, RecordChange, RecordDecision};
pub use open_enum::OpenEnum;
pub use telemetry::{DayReport, FailureReport, PerRecord, SizeBucket, TelemetryReport, TypeReport};
pub use waiting::{WaitingFor, WaitingReason};

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
    pub connectivity: Connectivity,
    /// What people should know without asking.
    #[serde(default)]
    #[schema(required = true)]
    pub alerts: Vec<Alert>,
    /// The user who asks. Events do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// What an alert is about. Names of other alerts may come with other versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AlertName {
    /// The store was damaged, and the damage is not acknowledged yet.
    StoreDamaged,
    /// No room: new records are refused.
    DiskFull,
    /// The disk gives errors: nothing is taken and nothing is sent.
    DiskFailing,
    /// Records need review.
    NeedsReview,
    /// The queue is nearly full.
    QueueFilling,
    /// The oldest record waits for long.
    RecordsWait,
    /// The token is sent over a connection without TLS.
    TokenInClear,
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Its name.
    #[schema(value_type = AlertName)]
    pub alert: OpenEnum<AlertName>,
    /// For people.
    pub message: String,
    /// Since when it stands.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: u64,
}

/// The body of `POST /v1/alerts/acknowledge`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeAlert {
    /// `store_damaged`: the others go when their cause does.
    pub alert: String,
}

/// What was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// The damage, the oldest first.
    pub acknowledged: Vec<Damage>,
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
    #[serde(default)]
    #[schema(required = true)]
    pub holding: Vec<Holder>,
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
pub struct Connectivity {
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

impl From<Link> for Connectivity {
    fn from(link: Link) -> Self {
        Self { state: link.state.into(), since: link.since, metered: link.metered.unwrap_or_default() }
    }
}

/// `201` to `POST /v1/records`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// New ones, on disk.
    pub accepted: u64,
    /// Known ones with the same content.
    pub duplicates: u64,
    /// Of all of them, in the order they came.
    pub ids: Vec<RecordId>,
}

/// `GET /v1/records`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// In queue order.
    pub records: Vec<ManifestEntry>,
    /// For `after=`, when there is more.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// `GET /v1/records/{id}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordDetail {
    /// What the manifest knows.
    #[serde(flatten)]
    pub entry: ManifestEntry,
    /// Whether key and message are left out, because the caller is neither its submitter nor an admin.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub redacted: bool,
    /// Why it is not sent yet, while it is not synced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting_for: Option<WaitingFor>,
    /// With `?lineage=true`: recent sends of the batches that it was in, from the one that took it from
    /// the queue to its present one, the oldest first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lineage: Option<Vec<BatchReport>>,
    /// With `?payload=true`, while it is kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
}

/// `GET /v1/batches`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchList {
    /// The newest first.
    pub batches: Vec<BatchReport>,
}

/// The class of the answer to a batch, or of its absence.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BatchOutcome {
    /// The server has a result for each record.
    Answered,
    /// The time limit passed; the server may have the batch.
    Timeout,
    /// The server failed on it; it may have the batch.
    ServerError,
    /// The connection was lost; the server may have the batch.
    ConnectionLost,
    /// The link took the body too slowly.
    LinkTooSlow,
    /// Nothing reached the server.
    Unreachable,
    /// The body is too large for the server.
    TooLarge,
    /// The server asked to come back later.
    Throttled,
    /// The server is still processing an earlier send.
    Processing,
    /// The server knows the batch id with another body.
    BatchIdReused,
    /// The server refused the request.
    Refused,
    /// The server does not take the encoding.
    EncodingRefused,
    /// The server does not accept the credential.
    Unauthorized,
    /// There is no batch endpoint at the address.
    Misconfigured,
    /// A portal or proxy answered in place of the server.
    Interfered,
}

/// What became of one send of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchReport {
    /// The batch.
    pub id: BatchId,
    /// The nearest batch that was sent of those that it was split from, or its id before it got this one.
    #[schema(required = true)]
    pub parent: Option<BatchId>,
    /// `i/N`
    #[serde(with = "sequence_text")]
    #[schema(value_type = String, pattern = r"^\d+/\d+$")]
    pub sequence: Sequence,
    /// How many records.
    pub records: usize,
    /// Sum of the payloads.
    pub bytes: u64,
    /// 1 on the first send of this id.
    pub attempt: u32,
    /// The class of the answer.
    #[schema(value_type = String)]
    pub outcome: OpenEnum<BatchOutcome>,
    /// The status of the answer, when there was one.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// Until the answer, or until it was given up.
    pub duration_ms: u64,
    /// Records that the server confirmed.
    pub synced: usize,
    /// Why it had its size.
    #[schema(value_type = SizeRule)]
    pub rule: OpenEnum<SizeRule>,
    /// What it was expected to take when it was sent, once anything was measured.
    #[serde(default)]
    #[schema(required = true)]
    pub expected_ms: Option<u64>,
    /// One such batch in 100 takes longer.
    #[serde(default)]
    #[schema(required = true)]
    pub at_most_ms: Option<u64>,
    /// The time limit that it was sized for.
    #[serde(default)]
    #[schema(required = true)]
    pub time_limit_ms: u64,
    /// What was done about it, in words.
    pub note: String,
    /// When it ended.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: u64,
}

/// The body of `POST /v1/quarantine/add`, `…/retry` and `…/discard`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<RecordId>>,
    /// All that are under review; `…/add` takes ids only.
    #[serde(default)]
    pub all: bool,
    /// Needed to discard all of them.
    #[serde(default)]
    pub confirm: bool,
}

/// How many records a call changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// That many.
    pub changed: u64,
    /// To `…/add`: records that could not be put under review, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRecord>,
}

/// A record that a call left as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedRecord {
    /// Which.
    pub id: RecordId,
    /// Why, for programs: `no_such_record`, `already_synced` or `outcome_pending`.
    pub code: String,
    /// Why, for people.
    pub message: String,
}

/// The answer to `POST /v1/pause` and `POST /v1/resume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseState {
    /// Whether nothing is sent on request.
    pub paused: bool,
}

/// Serde for a sequence as `"3/6"`.
mod sequence_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::model::Sequence;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(sequence: &Sequence, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(sequence)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sequence, D::Error> {
        let text = String::deserialize(deserializer)?;
        let numbers = text.split_once('/').and_then(|(index, total)| {
            Some(Sequence { index: index.parse().ok()?, total: total.parse().ok()? })
        });
        numbers.ok_or_else(|| D::Error::custom(format!("`{text}` is no sequence")))
    }
}
