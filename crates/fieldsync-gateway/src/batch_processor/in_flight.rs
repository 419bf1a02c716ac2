//! The batches in flight: each one once, and so many that they fit into memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::digest::Sha256Digest;
use crate::model::{BatchId, DeviceId};
use crate::validated_batch::ValidatedBatch;

/// Content of all batches in flight. A batch needs up to three times as much memory while it is handed over. One batch is
/// always taken.
const BATCH_BYTES_IN_FLIGHT_MAX: usize = 256 << 20;

/// Memory of a record besides its texts.
const RECORD_BYTES: usize = 256;

pub(super) type BatchKey = (DeviceId, BatchId);

struct InFlightBatch {
    fingerprint: Sha256Digest,
    content_bytes: usize,
}

/// The batches in flight.
pub(super) struct InFlightTable {
    /// Bounds the memory of batches in flight.
    batches_max: usize,
    batches: HashMap<BatchKey, InFlightBatch>,
    content_bytes: usize,
}

/// Whether a batch was added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AddResult {
    Added,
    /// The same batch is in flight.
    Present,
    /// A batch with its id and another body is in flight.
    IdReused,
    /// There is no room for it.
    Full,
}

impl InFlightTable {
    pub(super) fn new(batches_max: usize) -> Self {
        Self { batches_max, batches: HashMap::new(), content_bytes: 0 }
    }

    pub(super) fn add_batch(&mut self, batch: &ValidatedBatch) -> AddResult {
        self.add((batch.device, batch.id), batch.fingerprint, count_bytes(batch))
    }

    fn add(&mut self, key: BatchKey, fingerprint: Sha256Digest, content_bytes: usize) -> AddResult {
        let all_bytes = self.content_bytes.saturating_add(content_bytes);
        let is_full = self.batches.len() >= self.batches_max
            || (!self.batches.is_empty() && all_bytes > BATCH_BYTES_IN_FLIGHT_MAX);
        match self.batches.entry(key) {
            Entry::Occupied(entry) if entry.get().fingerprint == fingerprint => AddResult::Present,
            Entry::Occupied(_) => AddResult::IdReused,
            Entry::Vacant(_) if is_full => AddResult::Full,
            Entry::Vacant(entry) => {
                entry.insert(InFlightBatch { fingerprint, content_bytes });
                self.content_bytes = all_bytes;
                AddResult::Added
            }
        }
    }

    pub(super) fn remove(&mut self, key: &BatchKey) {
        if let Some(batch) = self.batches.remove(key) {
            self.content_bytes = self.content_bytes.saturating_sub(batch.content_bytes);
        }
    }

    pub(super) fn contains(&self, key: &BatchKey) -> bool {
        self.batches.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }
}

/// What a sender can make large counts, whatever it was compressed to.
fn count_bytes(batch: &ValidatedBatch) -> usize {
    let texts = batch.records.iter().map(|record| {
        record.payload.get().len() + record.record_type.len() + record.key.as_ref().map_or(0, String::len)
    });
    texts.map(|bytes| bytes + RECORD_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::digest::sha256;
    use crate::model::RecordId;
    use crate::protocol::wire::WireRecord;
    use crate::validated_batch::ValidatedRecord;

    const BATCHES_MAX: usize = 128;

    fn key() -> BatchKey {
        (DeviceId(Uuid::new_v4()), BatchId::new())
    }

    /// A batch of empty payloads.
    fn batch(records: usize, record_type: &str, key: &str) -> ValidatedBatch {
        let (device, id) = self::key();
        let record = || {
            let record = WireRecord {
                id: RecordId::default(),
                record_type: record_type.into(),
                key: Some(key.into()),
                priority: None,
                created_at: 0,
                payload: RawValue::from_string("{}".into()).unwrap(),
            };
            ValidatedRecord::new(record, None)
        };
        let records = (0..records).map(|_| record()).collect();
        ValidatedBatch { device, id, fingerprint: sha256(b"body"), records }
    }

    #[test]
    fn batches_of_long_keys_and_of_many_small_records_are_bounded_by_their_bytes() {
        for (records, record_type, key) in [
            (1000, "Visits", "k".repeat(100_000)),
            (100_000, "Visits", "k".into()),
            (1000, "t".repeat(100_000).as_str(), "k".into()),
        ] {
            let batch = batch(records, record_type, &key);
            let text_bytes = records * (record_type.len() + key.len());
            assert!(count_bytes(&batch) >= text_bytes + records * size_of::<ValidatedRecord>());
            let mut table = InFlightTable::new(usize::MAX);
            let added = (0..100).take_while(|_| {
                table.add(self::key(), batch.fingerprint, count_bytes(&batch)) == AddResult::Added
            });
            assert!(added.count() <= BATCH_BYTES_IN_FLIGHT_MAX / text_bytes.max(records * RECORD_BYTES));
        }
    }

    #[test]
    fn batches_in_flight_are_bounded_by_number_and_by_bytes() {
        let (half, body) = (BATCH_BYTES_IN_FLIGHT_MAX / 2, sha256(b"body"));
        let mut table = InFlightTable::new(BATCHES_MAX);
        let (first, second) = (key(), key());
        assert_eq!(table.add(first, body, half), AddResult::Added);
        assert_eq!(table.add(first, body, half), AddResult::Present);
        assert_eq!(table.add(first, sha256(b"other"), half), AddResult::IdReused);
        assert_eq!(table.add(second, body, half + 1), AddResult::Full);
        assert_eq!(table.add(second, body, half), AddResult::Added);
        assert_eq!(table.add(key(), body, 1), AddResult::Full);
        table.remove(&first);
        assert_eq!(table.add(key(), body, 1), AddResult::Added);

        // A batch that is larger than all may be together passes alone.
        let mut table = InFlightTable::new(BATCHES_MAX);
        assert_eq!(table.add(first, body, BATCH_BYTES_IN_FLIGHT_MAX + 1), AddResult::Added);
        assert_eq!(table.add(second, body, 0), AddResult::Full);
        table.remove(&first);

        for _ in 0..BATCHES_MAX {
            assert_eq!(table.add(key(), body, 1), AddResult::Added);
        }
        assert_eq!((table.add(key(), body, 1), table.len()), (AddResult::Full, BATCHES_MAX));
    }
}
