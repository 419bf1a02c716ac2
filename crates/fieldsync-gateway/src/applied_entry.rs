//! An applied record as JSON: a line of `GET /ledger`, and with its payload an element of what is forwarded.

use serde::Serialize;
use serde_json::value::RawValue;

use super::ledger::{AppliedRecord, OutboxEntry};
use crate::model::{BatchId, DeviceId, RecordId};

/// A line of the listing.
#[derive(Serialize)]
pub(crate) struct AppliedRecordJson<'a> {
    seq: u64,
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'a str,
    key: Option<&'a str>,
    device_id: DeviceId,
    batch_id: BatchId,
    #[serde(with = "crate::clock::as_rfc3339")]
    applied_at: u64,
}

impl<'a> AppliedRecordJson<'a> {
    pub(crate) fn from_record(record: &'a AppliedRecord) -> Self {
        Self {
            seq: record.seq,
            id: record.id,
            record_type: &record.record_type,
            key: record.key.as_deref(),
            device_id: record.device,
            batch_id: record.batch,
            applied_at: record.applied_at,
        }
    }
}

/// A record that is forwarded.
#[derive(Serialize)]
pub(crate) struct OutboxEntryJson<'a> {
    #[serde(flatten)]
    record: AppliedRecordJson<'a>,
    payload: Box<RawValue>,
}

impl<'a> OutboxEntryJson<'a> {
    pub(crate) fn from_entry(entry: &'a OutboxEntry) -> Result<Self, serde_json::Error> {
        let record = AppliedRecordJson::from_record(&entry.record);
        Ok(Self { record, payload: RawValue::from_string(entry.payload.clone())? })
    }
}
