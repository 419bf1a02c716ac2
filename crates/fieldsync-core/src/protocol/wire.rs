//! The sync protocol, version 1, as Rust types. Daemon and gateway use the same types.
//!
//! The body of `POST {path}` is a [`BatchRequest`], its response a [`BatchResponse`]. The response to
//! `GET {path}/{batch_id}` repeats that to an earlier request, or is [`Processing`]. Errors have an [`ErrorBody`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::receipt::Receipt;
use crate::model::{BatchId, DeviceId, RecordId, Sequence};

/// The default path of the batch endpoint.
pub const BATCH_PATH: &str = "/crm/v2/mobile/sync/batch";

/// The id of the batch: UUID v4, the same on every resend of the same set of records.
pub const BATCH_ID: &str = "x-sync-batch-id";
/// `i/N`, fixed at the first send.
pub const BATCH_SEQUENCE: &str = "x-batch-sequence";
/// The id of the device.
pub const DEVICE_ID: &str = "x-sync-device-id";
/// The name of the device for people: at most 64 printable ASCII characters. It may change.
pub const DEVICE_NAME: &str = "x-sync-device-name";
/// 1 on the first send of this batch id, then 2, 3, …
pub const BATCH_ATTEMPT: &str = "x-sync-attempt";
/// Hint of the server: most records in a batch.
pub const MAX_RECORDS: &str = "x-sync-max-records";
/// Hint of the server: most bytes of a body.
pub const MAX_BYTES: &str = "x-sync-max-bytes";
/// Hint of the server: most batches of the device at a time.
pub const MAX_IN_FLIGHT: &str = "x-sync-max-in-flight";
/// Hint of the server: the time that a batch may take.
pub const TIME_BUDGET_MS: &str = "x-sync-time-budget-ms";
/// `true` on responses of a server that applies no record behind one of its key that it did not apply. A batch for any
/// other server has one record of a key.
pub const HOLDS_KEYS: &str = "x-sync-holds-keys";

/// Code of a 422: the batch id is known with another body.
pub const BATCH_ID_REUSED: &str = "BATCH_ID_REUSED";
/// Code of a 404: the server never received the complete batch.
pub const UNKNOWN_BATCH: &str = "UNKNOWN_BATCH";
/// Code of a rejected record: its id is known with another payload.
pub const ID_CONFLICT: &str = "ID_CONFLICT";
/// As [`ID_CONFLICT`], but another device used the id first.
pub const ID_OF_OTHER_DEVICE: &str = "ID_OF_OTHER_DEVICE";

/// The body of a batch. A pure function of the batch: byte for byte the same on every resend.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchRequest {
    /// As in the header.
    pub batch_id: BatchId,
    /// As in the header.
    pub device_id: DeviceId,
    /// As in the header.
    pub sequence: Sequence,
    /// In queue order.
    pub records: Vec<WireRecord>,
}

/// One record of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub struct WireRecord {
    /// Its permanent id.
    pub id: RecordId,
    /// What kind of record it is.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Records of one key are applied in order.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// 0 to 9, where it is not the default priority.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub priority: Option<u8>,
    /// When the device accepted it: RFC 3339, UTC, milliseconds.
    #[serde(with = "crate::clock::as_rfc3339")]
    pub created_at: u64,
    /// What the application handed over, byte for byte.
    pub payload: Box<RawValue>,
}

/// What is wrong with these names, for people. The device refuses such a record, and so does the server: terminals,
/// logs and databases cannot handle control characters.
pub fn find_name_fault(record_type: &str, key: Option<&str>) -> Option<&'static str> {
    if record_type.contains(char::is_control) {
        Some("`type` must not contain control characters")
    } else if key.is_some_and(|key| key.contains(char::is_control)) {
        Some("`key` must not contain control characters")
    } else {
        None
    }
}

/// The server's response to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResponse {
    /// Must be the id of the request; otherwise something other than the server responded.
    pub batch_id: BatchId,
    /// The response repeats that to an earlier request.
    #[serde(default)]
    pub replayed: bool,
    /// One for each record; a record without one was not stored.
    pub results: Vec<RecordResult>,
}

/// The result of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordResult {
    /// The record.
    pub id: RecordId,
    /// Whether it was stored.
    pub status: RecordStatus,
    /// Why, when it was rejected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// What it became at its destination.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receipt: Option<Receipt>,
    /// When it was rejected: the faulty part of the payload, as a JSON Pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// When it is to be sent again: not before so many seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_s: Option<u64>,
}

impl RecordResult {
    /// A result that says no more than the status.
    pub fn new(id: RecordId, status: RecordStatus) -> Self {
        Self { id, status, code: None, message: None, receipt: None, field: None, retry_after_s: None }
    }
}

/// Whether the server stored a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// Stored now.
    Applied,
    /// Stored by an earlier request.
    Duplicate,
    /// The record itself is faulty: resending it cannot help.
    Rejected,
    /// Not stored, try again later.
    Retry,
}

impl RecordStatus {
    /// Whether the server has the record.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Applied | Self::Duplicate)
    }
}

/// The response to an outcome query while the batch is being processed (202).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Processing {
    /// The batch.
    pub batch_id: BatchId,
    /// Always `processing`.
    pub state: ProcessingState,
}

/// The only state in the response to an outcome query.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessingState {
    /// Ask again.
    Processing,
}

/// `{"error": {"code": "…", "message": "…"}}`, the shape of every refusal, here and on the local API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: ErrorDetail,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs.
    pub code: String,
    /// For people.
    #[serde(default)]
    #[schema(required = true)]
    pub message: String,
    /// Which record of the request is at fault, from 1 (local API).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<u64>,
}

impl ErrorBody {
    /// A refusal.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { error: ErrorDetail { code: code.into(), message: message.into(), position: None } }
    }
}
