//! A record: how it is submitted, its states, and its entry in the manifest.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BatchId, RecordId};

/// The priority of a record without one.
pub const DEFAULT_PRIORITY: u8 = 5;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 9;

/// A record's position in the queue: by priority, highest first, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueuePosition(pub u64);

impl QueuePosition {
    const PRIORITY_SHIFT: u32 = 56;

    /// The position of the `seq`-th record to arrive (`seq` below 2^56).
    pub fn new(priority: u8, seq: u64) -> Self {
        let class = u64::from(PRIORITY_MAX.saturating_sub(priority));
        Self(class << Self::PRIORITY_SHIFT | seq)
    }

    /// The order of arrival, counted from 1 over the life of the store.
    pub fn seq(self) -> u64 {
        self.0 & ((1 << Self::PRIORITY_SHIFT) - 1)
    }

    /// 0 to 9; 9 is sent first.
    pub fn priority(self) -> u8 {
        let class = u8::try_from(self.0 >> Self::PRIORITY_SHIFT).unwrap_or(PRIORITY_MAX);
        PRIORITY_MAX.saturating_sub(class)
    }
}

/// The states of a record, as people and the API name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecordState {
    /// Waiting to be sent.
    Pending,
    /// In a batch that is being sent.
    Syncing,
    /// Confirmed by the server.
    Synced,
    /// Failed, and will be sent again.
    Failed,
    /// Under review by a person.
    Quarantined,
    /// Discarded by a person, and not sent. Only a receipt is kept.
    Discarded,
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
            Self::Discarded => "DISCARDED",
        }
    }
}

impl FromStr for RecordState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Pending, Self::Syncing, Self::Synced, Self::Failed, Self::Quarantined, Self::Discarded]
            .into_iter()
            .find(|state| state.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                format!(
                    "`{text}` is not a state: use PENDING, SYNCING, SYNCED, FAILED, QUARANTINED or DISCARDED"
                )
            })
    }
}

/// A valid record that an application submits.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// The application's id, or one created on arrival.
    pub id: RecordId,
    /// What kind of record it is, for example `Visits`.
    pub record_type: String,
    /// Records of one key are sent in order.
    pub key: Option<String>,
    /// 0 to 9; 9 is sent first.
    pub priority: u8,
    /// The JSON object, byte for byte.
    pub payload: Box<str>,
}

/// Why a record was not delivered the last time it was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The class of failure, for example `timeout` or `rejected`.
    pub class: String,
    /// The status of the server's response, if there was one.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// The server's or the daemon's code.
    #[schema(required = true)]
    pub code: Option<String>,
    /// For people. It may quote the record, so it is empty for callers who may not see that.
    pub message: String,
    /// The part of the payload that the server rejects, as a JSON Pointer (RFC 6901), where it named one. Left out for
    /// callers that may not see the message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// When it failed.
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
    /// Its ordering key. Also null for callers who are neither its submitter nor an admin.
    #[schema(required = true)]
    pub key: Option<String>,
    /// 0 to 9; 9 is sent first.
    pub priority: u8,
    /// Its state.
    pub state: RecordState,
    /// How often it was sent and the server may have had it.
    pub attempts: u32,
    /// How often it was sent, at least: also where nothing responded, or a response denied the whole request.
    #[serde(default)]
    #[schema(required = true)]
    pub sends: u32,
    /// Size of the payload.
    pub payload_bytes: u64,
    /// The user (uid) who submitted it.
    #[serde(default)]
    #[schema(required = true)]
    pub submitter: u32,
    /// When it was accepted.
    #[serde(with = "crate::clock::as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: u64,
    /// When its state last changed: of a DISCARDED record, when it was discarded.
    #[serde(with = "crate::clock::as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: u64,
    /// When it is sent again, if it waits for a point in time.
    #[serde(with = "crate::clock::as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<u64>,
    /// The batch that it is or was in.
    #[schema(required = true)]
    pub batch_id: Option<BatchId>,
    /// Why it was not delivered. Its message and field are for its submitter and admins.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// Of a DISCARDED record: the user who discarded it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub discarded_by: Option<String>,
    /// The record that blocks it: an earlier one of its key that failed or is under review.
    #[serde(rename = "held_by", default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<RecordId>,
    /// How many later records of its key it blocks. 1000 means 1000 or more.
    #[serde(rename = "holds", default, skip_serializing_if = "is_zero")]
    pub blocked_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
