//! The batches in flight: each one once, and so many that they fit into memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::digest::Sha256Digest;
use crate::model::{BatchId, DeviceId};
use crate::validated_batch::ValidatedBatch;

/// Payload bytes of all batches in flight. A batch needs about three times as much memory as its payloads while it is
/// handed over. One batch is always taken.
const BATCH_BYTES_IN_FLIGHT_MAX: usize = 256 << 20;

pub(super) type BatchKey = (DeviceId, BatchId);

struct InFlightBatch {
    fingerprint: Sha256Digest,
    payload_bytes: usize,
}

/// The batches in flight.
pub(super) struct InFlightTable {
    /// Bounds the memory of batches in flight.
    batches_max: usize,
    batches: HashMap<BatchKey, InFlightBatch>,
    payload_bytes: usize,
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
        Self { batches_max, batches: HashMap::new(), payload_bytes: 0 }
    }

    pub(super) fn add_batch(&mut self, batch: &ValidatedBatch) -> AddResult {
        self.add(
            (batch.device, batch.id),
            batch.fingerprint,
            batch.records.iter().map(|record| record.payload.get().len()).sum(),
        )
    }

    fn add(&mut self, key: BatchKey, fingerprint: Sha256Digest, payload_bytes: usize) -> AddResult {
        let all_bytes = self.payload_bytes.saturating_add(payload_bytes);
        let is_full = self.batches.len() >= self.batches_max
            || (!self.batches.is_empty() && all_bytes > BATCH_BYTES_IN_FLIGHT_MAX);
        match self.batches.entry(key) {
            Entry::Occupied(entry) if entry.get().fingerprint == fingerprint => AddResult::Present,
            Entry::Occupied(_) => AddResult::IdReused,
            Entry::Vacant(_) if is_full => AddResult::Full,
            Entry::Vacant(entry) => {
                entry.insert(InFlightBatch { fingerprint, payload_bytes });
                self.payload_bytes = all_bytes;
                AddResult::Added
            }
        }
    }

    pub(super) fn remove(&mut self, key: &BatchKey) {
        if let Some(batch) = self.batches.remove(key) {
            self.payload_bytes = self.payload_bytes.saturating_sub(batch.payload_bytes);
        }
    }

    pub(super) fn contains(&self, key: &BatchKey) -> bool {
        self.batches.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::digest::sha256;

    const BATCHES_MAX: usize = 128;

    fn key() -> BatchKey {
        (DeviceId(Uuid::new_v4()), BatchId::new())
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
