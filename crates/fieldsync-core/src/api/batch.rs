//! Reports of sent batches.

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use super::{OpenEnum, sequence_text};
use crate::clock::as_rfc3339;
use crate::model::{BatchId, InFlightRule, ManifestEntry, Sequence, SizeRule};

/// `GET /v1/batches`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchList {
    /// The newest first.
    pub batches: Vec<BatchReport>,
}

/// The class of the response to a batch, or why there was none.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BatchOutcome {
    /// The server has a result for each record.
    Answered,
    /// The time limit passed; the server may have the batch.
    Timeout,
    /// The server failed to process it, and may have the batch.
    ServerError,
    /// The connection was lost; the server may have the batch.
    ConnectionLost,
    /// The body could not be sent in time.
    LinkTooSlow,
    /// Nothing reached the server.
    Unreachable,
    /// The body was too large for the server.
    TooLarge,
    /// The server asked for a wait.
    Throttled,
    /// The server is still processing an earlier send.
    Processing,
    /// The server knows the batch id from another body.
    BatchIdReused,
    /// The server refused the request.
    Refused,
    /// The server does not accept the encoding.
    EncodingRefused,
    /// The server does not accept the credential.
    Unauthorized,
    /// The address is not that of a batch endpoint.
    Misconfigured,
    /// A captive portal or a proxy responded instead of the server.
    Interfered,
}

impl BatchOutcome {
    /// All classes of this version.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
}

/// One batch: how it was sent, and what became of its records.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchDetail {
    /// The id of the batch.
    pub id: BatchId,
    /// Its recent sends, and those of the batches that it was split from. The oldest first.
    pub lineage: Vec<BatchReport>,
    /// The recent sends of the batches that it was split into. The oldest first.
    pub parts: Vec<BatchReport>,
    /// The records whose last batch it is, the newest first. At most 1,000.
    pub records: Vec<ManifestEntry>,
}

/// The result of sending a batch once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchReport {
    /// The id of the batch.
    pub id: BatchId,
    /// The nearest of its ancestors that was sent; or its previous id, if it got a new one.
    #[schema(required = true)]
    pub parent: Option<BatchId>,
    /// `i/N`
    #[serde(with = "sequence_text")]
    #[schema(value_type = String, pattern = r"^\d+/\d+$")]
    pub sequence: Sequence,
    /// Number of records.
    pub records: usize,
    /// Payload bytes.
    pub bytes: u64,
    /// How often this id was sent, from 1.
    pub attempt: u32,
    /// The class of the response.
    #[schema(value_type = String)]
    pub outcome: OpenEnum<BatchOutcome>,
    /// The HTTP status of the response; null if there was none.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// The time until the response, or until the daemon stopped waiting for it.
    pub duration_ms: u64,
    /// Records that the server confirmed.
    pub synced: usize,
    /// The rule that decided its size.
    #[schema(value_type = SizeRule)]
    pub rule: OpenEnum<SizeRule>,
    /// The expected duration when it was sent; null before the first measurement.
    #[serde(default)]
    #[schema(required = true)]
    pub expected_ms: Option<u64>,
    /// The duration that 99 of 100 such batches do not exceed.
    #[serde(default)]
    #[schema(required = true)]
    pub at_most_ms: Option<u64>,
    /// The time limit that decided its size.
    #[serde(default)]
    #[schema(required = true)]
    pub time_limit_ms: u64,
    /// How many batches were under way once it was sent, itself included.
    #[serde(default = "one_batch")]
    #[schema(required = true)]
    pub in_flight: usize,
    /// The rule that decided how many may be.
    #[serde(default = "configured_rule")]
    #[schema(value_type = InFlightRule, required = true)]
    pub in_flight_rule: OpenEnum<InFlightRule>,
    /// What the daemon did about it, in words.
    pub note: String,
    /// When it ended.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: u64,
}

/// Versions before 0.2 sent one batch at a time.
fn one_batch() -> usize {
    1
}

fn configured_rule() -> OpenEnum<InFlightRule> {
    InFlightRule::Configured.into()
}
