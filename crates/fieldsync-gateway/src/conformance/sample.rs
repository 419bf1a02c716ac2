//! Batches and records that the kit sends: as a device would write them, byte for byte.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::model::{BatchId, DeviceId, RecordId};

/// A batch of the kit.
#[derive(Clone, Debug)]
pub(super) struct SampleBatch {
    pub(super) id: BatchId,
    pub(super) device: DeviceId,
    pub(super) records: Vec<SampleRecord>,
}

/// A record of the kit.
#[derive(Clone, Debug)]
pub(super) struct SampleRecord {
    pub(super) id: RecordId,
    pub(super) record_type: String,
    pub(super) key: Option<String>,
    /// JSON text, sent byte for byte.
    pub(super) payload: String,
}

impl SampleRecord {
    /// A record with an id of its own.
    pub(super) fn new(record_type: &str, payload: impl Into<String>) -> Self {
        Self { id: RecordId::new(), record_type: record_type.into(), key: None, payload: payload.into() }
    }

    /// The same id with other content.
    pub(super) fn with_other_payload(&self) -> Self {
        Self { payload: r#"{"Subject":"Conformance, other content"}"#.into(), ..self.clone() }
    }

    pub(super) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    fn write(&self, body: &mut String) {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let key = self.key.as_deref().map_or_else(String::new, |key| format!(r#""key":{},"#, quote(key)));
        // Writing to memory does not fail.
        write!(
            body,
            r#"{{"id":"{}","type":{},{key}"created_at":"2026-03-01T08:15:30.120Z","payload":{}}}"#,
            self.id,
            quote(&self.record_type),
            self.payload
        )
        .ok();
    }
}

impl SampleBatch {
    /// A batch of a new device.
    pub(super) fn new(records: Vec<SampleRecord>) -> Self {
        Self { id: BatchId::new(), device: DeviceId(Uuid::new_v4()), records }
    }

    /// The same device and records under a new batch id.
    pub(super) fn under_new_id(&self) -> Self {
        Self { id: BatchId::new(), ..self.clone() }
    }

    /// A new batch of the same device.
    pub(super) fn followed_by(&self, records: Vec<SampleRecord>) -> Self {
        Self { id: BatchId::new(), device: self.device, records }
    }

    pub(super) fn record_ids(&self) -> Vec<RecordId> {
        self.records.iter().map(|record| record.id).collect()
    }

    /// The body with the sequence 1 of 1.
    pub(super) fn body(&self) -> String {
        self.body_with_sequence(1, 1)
    }

    pub(super) fn body_with_sequence(&self, index: u32, total: u32) -> String {
        let mut body = format!(
            r#"{{"batch_id":"{}","device_id":"{}","sequence":{{"index":{index},"total":{total}}},"records":["#,
            self.id, self.device
        );
        for (at, record) in self.records.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            record.write(&mut body);
        }
        body.push_str("]}");
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::BatchRequest;

    #[test]
    fn a_sample_is_a_batch_of_the_protocol() {
        let record = SampleRecord::new("Visits", r#"{"Amount":120.50}"#).with_key("account \"17\"");
        let batch = SampleBatch::new(vec![record.clone(), record.with_other_payload()]);
        let body: BatchRequest = serde_json::from_str(&batch.body_with_sequence(2, 5)).unwrap();
        assert_eq!((body.batch_id, body.device_id), (batch.id, batch.device));
        assert_eq!((body.sequence.index, body.sequence.total), (2, 5));
        assert_eq!(body.records[0].key.as_deref(), Some("account \"17\""));
        assert_eq!(body.records[0].payload.get(), r#"{"Amount":120.50}"#);
        assert_eq!(body.records[0].id, body.records[1].id);
    }
}
