//! The bodies of the calls for an operator, for the gateway and its command line.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ledger::RefusedEntry;
use crate::model::{BatchId, DeviceId, RecordId};

/// A refused record without its payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefusedSummary {
    pub(crate) seq: u64,
    pub(crate) id: RecordId,
    #[serde(rename = "type")]
    pub(crate) record_type: String,
    pub(crate) key: Option<String>,
    pub(crate) device_id: DeviceId,
    pub(crate) batch_id: BatchId,
    #[serde(with = "crate::clock::as_rfc3339")]
    pub(crate) applied_at: u64,
    #[serde(with = "crate::clock::as_rfc3339")]
    pub(crate) refused_at: u64,
    /// How often the receiver did not take it.
    pub(crate) attempts: u32,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) field: Option<String>,
}

impl RefusedSummary {
    pub(super) fn from_entry(refused: &RefusedEntry) -> Self {
        let (record, reason) = (&refused.entry.record, refused.reason.clone());
        Self {
            seq: record.seq,
            id: record.id,
            record_type: record.record_type.clone(),
            key: record.key.clone(),
            device_id: record.device,
            batch_id: record.batch,
            applied_at: record.applied_at,
            refused_at: refused.refused_at,
            attempts: refused.attempts,
            code: reason.code,
            message: reason.message,
            field: reason.field,
        }
    }
}

/// A page of refused records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefusedPage {
    pub(crate) records: Vec<RefusedSummary>,
    /// For the next page, as `after`; null on the last one.
    pub(crate) next: Option<RecordId>,
}

/// A refused record.
#[derive(Debug, Serialize)]
pub(crate) struct RefusedDetail {
    #[serde(flatten)]
    pub(super) summary: RefusedSummary,
    pub(super) payload: Box<RawValue>,
}

/// Records that an operator chose.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusedSelection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<Vec<RecordId>>,
    #[serde(default)]
    pub(crate) all: bool,
}

/// How many records a call changed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangedRecords {
    pub(crate) changed: u64,
}
