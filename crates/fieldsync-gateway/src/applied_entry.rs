//! An applied record as JSON: a line of `GET /ledger`, and what is handed on.

use serde::Serialize;
use serde_json::value::RawValue;

use super::ledger::Application;
use crate::model::{BatchId, DeviceId, RecordId};

/// One application of one record, on one line.
#[derive(Serialize)]
pub(crate) struct AppliedRecord<'a> {
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

impl<'a> AppliedRecord<'a> {
    pub(crate) fn of(row: &'a Application) -> Result<Self, serde_json::Error> {
        // Outside of strings a line break is mere space, and within them it is escaped.
        let payload = RawValue::from_string(row.payload.replace(['\n', '\r'], " "))?;
        Ok(Self {
            seq: row.seq,
            id: row.id,
            record_type: &row.record_type,
            key: row.key.as_deref(),
            device_id: row.device,
            batch_id: row.batch,
            applied_at: row.applied_at,
            payload,
        })
    }
}
