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
    /// The records, in queue order; with `changed_after`, in the order of their changes.
    pub records: Vec<ManifestEntry>,
    /// With `changed_after`: records that changed and are not known any more.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unknown: Vec<RecordId>,
    /// The value of `after=` for the next page; null on the last page. With `changed_after`, its next value, and never null.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// The most ids of one lookup.
pub const LOOKUP_IDS_MAX: usize = 1000;

/// The body of `POST /v1/records/lookup`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordLookup {
    /// The ids of the records, at most 1000.
    #[schema(max_items = 1000)]
    pub ids: Vec<RecordId>,
}

/// The response to `POST /v1/records/lookup`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FoundRecords {
    /// The records that are known, in the order of the request.
    pub records: Vec<FoundRecord>,
    /// The ids that are not known: they were never stored, or their receipts are gone.
    pub unknown: Vec<RecordId>,
}

/// A record that was looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FoundRecord {
    /// The entry in the manifest.
    #[serde(flatten)]
    pub entry: ManifestEntry,
    /// As in `GET /v1/records/{id}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>, required = true)]
    pub receipt: Option<Receipt>,
    /// As in `GET /v1/records/{id}`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub redacted: bool,
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
    /// What it waits for; absent once it is synced or discarded.
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
