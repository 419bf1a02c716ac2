//! An applied record as JSON: a line of `GET /ledger`, and an element of what is forwarded.

use serde::Serialize;
use serde_json::value::RawValue;

use super::ledger::AppliedEntry;
use crate::model::{BatchId, DeviceId, RecordId};

/// One entry of the append-only table, on one line.
#[derive(Serialize)]
pub(crate) struct AppliedEntryJson<'a> {
    seq: u64,
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'a str,
    key: Option<&'a str>,
    device_id: DeviceId,
    batch_id: BatchId,
    #[serde(with = "crate::clock::as_rfc3339")]
    applied_at: u64,
    payload: Box<RawValue>,
}

impl<'a> AppliedEntryJson<'a> {
    pub(crate) fn from_entry(entry: &'a AppliedEntry) -> Result<Self, serde_json::Error> {
        // A line break outside of a string is white space; inside a string it is escaped.
        let payload = RawValue::from_string(entry.payload.replace(['\n', '\r'], " "))?;
        Ok(Self {
            seq: entry.seq,
            id: entry.id,
            record_type: &entry.record_type,
            key: entry.key.as_deref(),
            device_id: entry.device,
            batch_id: entry.batch,
            applied_at: entry.applied_at,
            payload,
        })
    }
}
