//! Records: how they are accepted, listed and shown.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{BatchReport, WaitingFor};
use crate::model::{ManifestEntry, RecordId};
use crate::protocol::receipt::Receipt;

/// The response `201` to `POST /v1/records`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Number of new records, which are on disk.
    pub accepted: u64,
    /// Number of records that were stored before with the same content.
    pub duplicates: u64,
    /// The ids of all of them, in the order of the request.
    pub ids: Vec<RecordId>,
}

/// `GET /v1/records`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// The records, in queue order.
    pub records: Vec<ManifestEntry>,
    /// The value of `after=` for the next page; null on the last page.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// `GET /v1/records/{id}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordDetail {
    /// The entry in the manifest.
    #[serde(flatten)]
    pub entry: ManifestEntry,
    /// What the server said it became: an object of the server's own, at most 1 KiB. Null if the server did not say, and for
    /// callers who are neither its submitter nor an admin.
    #[serde(default)]
    #[schema(value_type = Option<Object>, required = true)]
    pub receipt: Option<Receipt>,
    /// Whether key, receipt, and message and field of the error are omitted, because the caller is neither its submitter nor
    /// an admin.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub redacted: bool,
    /// What it waits for; absent once it is synced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waiting_for: Option<WaitingFor>,
    /// With `?lineage=true`: the recent sends of the batches that contained it, from its first batch to its current
    /// one, the oldest first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lineage: Option<Vec<BatchReport>>,
    /// With `?payload=true`: the payload, while it is kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
}
