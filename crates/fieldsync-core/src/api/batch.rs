//! Reports of sent batches.

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};
use utoipa::ToSchema;

use super::{OpenEnum, sequence_text};
use crate::clock::as_rfc3339;
use crate::model::{BatchId, Sequence, SizeRule};

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
