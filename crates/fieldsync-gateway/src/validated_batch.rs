//! A batch that passed validation, and the results that its records can get.

use serde_json::value::RawValue;

use super::digest::{Sha256Digest, sha256_of_parts};
use crate::model::{BatchId, DEFAULT_PRIORITY, DeviceId, RecordId};
use crate::protocol::receipt::Receipt;
use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE, RecordResult, RecordStatus, WireRecord};

/// Code of a rejected record that is itself faulty.
pub(crate) const INVALID_DATA: &str = "INVALID_DATA";
/// Code of a record behind another of its key that was not applied.
pub(crate) const HELD: &str = "HELD";
/// The message of [`HELD`].
pub(crate) const HELD_MESSAGE: &str = "an earlier record of its key was not applied";

/// The device keeps 200 characters of a message.
const USED_BY_OTHER_DEVICE: &str = "another device used this id first, for other content. This record is not stored: enqueue its payload \
     under a new id and discard it here; if ids are random, tell the operator of the server";

/// A well-formed batch.
#[derive(Debug)]
pub(crate) struct ValidatedBatch {
    pub(crate) device: DeviceId,
    pub(crate) id: BatchId,
    /// Digest of the decoded body: tells a resend from another batch under the same id.
    pub(crate) fingerprint: Sha256Digest,
    /// In the order in which they are applied; no id occurs twice.
    pub(crate) records: Vec<ValidatedRecord>,
}

/// What the ledger knows of an applied record.
#[derive(Debug)]
pub(crate) struct KnownRecord {
    pub(crate) digest: Sha256Digest,
    /// The device that sent it first; `None` if an older gateway applied it and did not store the device.
    pub(crate) device: Option<DeviceId>,
    /// What it became at the destination; `None` if it was applied without one.
    pub(crate) receipt: Option<Receipt>,
}

/// A record of a [`ValidatedBatch`].
#[derive(Debug)]
pub(crate) struct ValidatedRecord {
    pub(crate) id: RecordId,
    pub(crate) record_type: String,
    pub(crate) key: Option<String>,
    pub(crate) priority: u8,
    pub(crate) payload: Box<RawValue>,
    /// Digest of type, key and payload: tells a duplicate from another record under the same id.
    pub(crate) digest: Sha256Digest,
    /// Why the record itself is faulty and must not be applied.
    pub(crate) fault: Option<&'static str>,
}

impl ValidatedRecord {
    pub(crate) fn new(record: WireRecord, fault: Option<&'static str>) -> Self {
        Self {
            digest: record_digest(&record),
            id: record.id,
            record_type: record.record_type,
            key: record.key,
            priority: record.priority.unwrap_or(DEFAULT_PRIORITY),
            payload: record.payload,
            fault,
        }
    }

    /// The result that rejects this record.
    pub(crate) fn reject(&self, code: &str, message: &str) -> RecordResult {
        RecordResult {
            code: Some(code.into()),
            message: Some(message.into()),
            ..RecordResult::new(self.id, RecordStatus::Rejected)
        }
    }

    /// The result that asks the device to send this record again.
    pub(crate) fn retry(&self, code: &str, message: &str) -> RecordResult {
        RecordResult {
            code: Some(code.into()),
            message: Some(message.into()),
            ..RecordResult::new(self.id, RecordStatus::Retry)
        }
    }

    /// The result for a record of `device` whose id is already in the ledger.
    pub(crate) fn compare_with_known(&self, known: &KnownRecord, device: DeviceId) -> RecordResult {
        if known.digest == self.digest {
            RecordResult { receipt: known.receipt.clone(), ..self.confirm(RecordStatus::Duplicate) }
        } else if known.device.is_some_and(|first| first != device) {
            self.reject(ID_OF_OTHER_DEVICE, USED_BY_OTHER_DEVICE)
        } else {
            self.reject(ID_CONFLICT, "a record with this id and other content was applied before")
        }
    }

    /// The result that confirms this record.
    pub(crate) fn confirm(&self, status: RecordStatus) -> RecordResult {
        RecordResult::new(self.id, status)
    }
}

fn record_digest(record: &WireRecord) -> Sha256Digest {
    let record_type = record.record_type.as_bytes();
    let key = record.key.as_deref().unwrap_or_default().as_bytes();
    // The lengths separate the parts, and tell an empty key from a missing one.
    let lengths = format!("{}/{}/{}/", record_type.len(), record.key.is_some(), key.len());
    sha256_of_parts(&[lengths.as_bytes(), record_type, key, record.payload.get().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(record_type: &str, key: Option<&str>, payload: &str) -> Sha256Digest {
        record_digest(&WireRecord {
            id: RecordId::default(),
            record_type: record_type.into(),
            key: key.map(Into::into),
            priority: None,
            created_at: 0,
            payload: RawValue::from_string(payload.into()).unwrap(),
        })
    }

    #[test]
    fn the_digest_of_a_record_depends_on_type_key_and_payload_and_on_nothing_else() {
        let digests = [
            digest("Visits", None, "{}"),
            digest("Visits", Some(""), "{}"),
            digest("Visit", Some("s"), "{}"),
            digest("Visits", None, "{ }"),
        ];
        for (at, one) in digests.iter().enumerate() {
            assert!(!digests[at + 1..].contains(one));
        }
        assert_eq!(digests[0], digest("Visits", None, "{}"));
    }
}
