//! The body of a batch: JSON, encoded as the server accepts it. It is a pure function of the batch, so that a resend is
//! identical to the byte.
//!
//! Payloads are JSON since they were enqueued, and the store checks that they are unchanged. They are copied into the
//! body and not parsed again.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tokio::task::{self, JoinError};

use super::encoding::ContentEncoding;
use crate::model::{Batch, BatchId, BatchRecord, DEFAULT_PRIORITY, DeviceId, RecordId, Sequence};

/// From this size on, a body is compressed on a thread of its own: it takes milliseconds.
const COMPRESSED_ASIDE_BYTES_MIN: usize = 32 << 10;
/// The part of a record that is not its payload, roughly.
const RECORD_HEAD_BYTES: usize = 192;

/// Why there is no body.
#[derive(Debug, Error)]
pub(super) enum BatchBodyError {
    /// The fields of a record cannot be written as JSON.
    #[error("the batch cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The body cannot be compressed.
    #[error("the body cannot be compressed: {0}")]
    Compression(#[from] io::Error),
    /// The thread that compressed it ended early.
    #[error("the compression of the body ended early: {0}")]
    Thread(#[from] JoinError),
}

/// The fields of [`BatchRequest`](crate::protocol::wire::BatchRequest) before its records.
#[derive(Serialize)]
struct BatchHead {
    batch_id: BatchId,
    device_id: DeviceId,
    sequence: Sequence,
}

/// The fields of [`WireRecord`](crate::protocol::wire::WireRecord) before its payload.
#[derive(Serialize)]
struct RecordHead<'r> {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(with = "crate::clock::as_rfc3339")]
    created_at: u64,
}

/// The body of a batch, encoded.
pub(super) async fn encode_body(
    batch: &Batch,
    device: DeviceId,
    encoding: Option<ContentEncoding>,
) -> Result<Bytes, BatchBodyError> {
    let plain = write_json(batch, device)?;
    let Some(encoding) = encoding else { return Ok(plain.into()) };
    if plain.len() < COMPRESSED_ASIDE_BYTES_MIN {
        return Ok(encoding.encode(&plain)?.into());
    }
    let encoded = task::spawn_blocking(move || encoding.encode(&plain)).await??;
    Ok(encoded.into())
}

fn write_json(batch: &Batch, device: DeviceId) -> Result<Vec<u8>, BatchBodyError> {
    let payloads: usize = batch.records.iter().map(|record| record.payload.len()).sum();
    let mut body = Vec::with_capacity(payloads + RECORD_HEAD_BYTES * (batch.records.len() + 1));
    let head = BatchHead { batch_id: batch.open.id, device_id: device, sequence: batch.sequence };
    write_object_start(&mut body, &head)?;
    body.extend_from_slice(br#","records":["#);
    for (index, record) in batch.records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_record(&mut body, record)?;
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

fn write_record(body: &mut Vec<u8>, record: &BatchRecord) -> Result<(), BatchBodyError> {
    let head = RecordHead {
        id: record.id,
        record_type: &record.record_type,
        key: record.key.as_deref(),
        priority: (record.priority != DEFAULT_PRIORITY).then_some(record.priority),
        created_at: record.created_at,
    };
    write_object_start(body, &head)?;
    body.extend_from_slice(br#","payload":"#);
    body.extend_from_slice(record.payload.as_bytes());
    body.push(b'}');
    Ok(())
}

/// Writes an object without its last brace, so that fields can follow.
fn write_object_start(body: &mut Vec<u8>, object: &impl Serialize) -> Result<(), BatchBodyError> {
    serde_json::to_writer(&mut *body, object)?;
    body.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::model::{BatchPhase, OpenBatch, QueuePosition, SizeRule, Stage};
    use crate::protocol::wire::{BatchRequest, WireRecord};

    fn batch(records: Vec<BatchRecord>) -> Batch {
        let open = OpenBatch {
            id: BatchId::new(),
            parent: None,
            stage: Stage::Fresh,
            rule: SizeRule::Standard,
            place: QueuePosition(0),
            records: records.len(),
            bytes: 0,
            attempt: 1,
            lone_failures: 0,
            phase: BatchPhase::InFlight,
        };
        Batch { open, sequence: Sequence { index: 1, total: 9 }, records }
    }

    /// The body as the types of the protocol write it.
    fn reference_body(batch: &Batch, device: DeviceId) -> Vec<u8> {
        let records = batch.records.iter().map(|record| WireRecord {
            id: record.id,
            record_type: record.record_type.clone(),
            key: record.key.clone(),
            priority: (record.priority != DEFAULT_PRIORITY).then_some(record.priority),
            created_at: record.created_at,
            payload: RawValue::from_string(record.payload.to_string()).unwrap(),
        });
        let records = records.collect();
        let (batch_id, sequence) = (batch.open.id, batch.sequence);
        serde_json::to_vec(&BatchRequest { batch_id, device_id: device, sequence, records }).unwrap()
    }

    proptest! {
        #[test]
        fn a_body_is_what_the_types_of_the_protocol_write(
            records in prop::collection::vec(
                (any::<u128>(), any::<String>(), any::<Option<String>>(), 0u8..10, 0u64..1 << 42, any::<String>()), 0..8,
            ),
            device: u128,
        ) {
            let records = records.into_iter().map(|(id, record_type, key, priority, created_at, text)| BatchRecord {
                id: RecordId(Uuid::from_u128(id)),
                record_type,
                key,
                priority,
                created_at,
                payload: serde_json::json!({ "text": text, "list": [1, null] }).to_string().into(),
            });
            let (batch, device) = (batch(records.collect()), DeviceId(Uuid::from_u128(device)));
            let body = write_json(&batch, device).unwrap();
            prop_assert_eq!(String::from_utf8(body), String::from_utf8(reference_body(&batch, device)));
        }
    }

    #[actix_rt::test]
    async fn a_large_body_is_compressed_as_a_small_one_is() {
        let record = |id: u128| BatchRecord {
            id: RecordId(Uuid::from_u128(id)),
            record_type: "Visits".into(),
            key: None,
            priority: DEFAULT_PRIORITY,
            created_at: 0,
            payload: format!("{{\"note\":\"{}\"}}", "x".repeat(4000)).into(),
        };
        let device = DeviceId(Uuid::from_u128(7));
        for records in [1, 40] {
            let batch = batch((0..records).map(record).collect());
            let plain = encode_body(&batch, device, None).await.unwrap();
            for encoding in [ContentEncoding::Zstd, ContentEncoding::Gzip] {
                let encoded = encode_body(&batch, device, Some(encoding)).await.unwrap();
                assert_eq!(encoded, encoding.encode(&plain).unwrap(), "{records} records");
                assert!(encoded.len() < plain.len() / 2);
            }
        }
    }
}
