//! Records: how they are accepted, listed and shown.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{BatchReport, WaitingFor};
use crate::model::{ManifestEntry, RecordId};

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
