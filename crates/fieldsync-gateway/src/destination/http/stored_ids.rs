//! Which record has which id at the destination, so that two records that became one there are noticed.
//!
//! That happens if the field with the record's id is not unique at the destination: an upsert then finds another
//! record.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::RecordId;

/// So many ids are remembered; the oldest is forgotten first.
const IDS_MAX: usize = 10_000;

/// A record that the destination says it applied.
pub(super) struct AppliedRecord {
    /// Its place among the verdicts.
    pub(super) at: usize,
    pub(super) record: RecordId,
    /// Its id at the destination.
    pub(super) stored_id: Arc<str>,
}

/// A record type, and an id of that type at the destination.
type StoredId = (usize, Arc<str>);

#[derive(Default)]
struct KnownIds {
    /// The records of the response with the id. One of them has it: their order was perhaps another.
    records: HashMap<StoredId, Arc<[RecordId]>>,
    oldest_first: VecDeque<StoredId>,
}

/// The ids that responses named.
#[derive(Default)]
pub(super) struct StoredIds(Mutex<KnownIds>);

impl StoredIds {
    /// Remembers the ids of records of one response. Returns the places of those whose id belongs to other records.
    pub(super) fn note_applied(&self, type_index: usize, applied: Vec<AppliedRecord>) -> Vec<usize> {
        let own: Arc<[RecordId]> = applied.iter().map(|applied| applied.record).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut merged = Vec::new();
        for AppliedRecord { at, stored_id, .. } in applied {
            let stored_id = (type_index, stored_id);
            match known.records.get(&stored_id) {
                Some(records) if records.iter().any(|record| own.contains(record)) => {}
                Some(_) => merged.push(at),
                None => {
                    known.oldest_first.push_back(stored_id.clone());
                    known.records.insert(stored_id, Arc::clone(&own));
                }
            }
        }
        while known.oldest_first.len() > IDS_MAX {
            if let Some(oldest) = known.oldest_first.pop_front() {
                known.records.remove(&oldest);
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn applied(records: &[(u128, &str)]) -> Vec<AppliedRecord> {
        let record = |(at, (number, id)): (usize, &(u128, &str))| AppliedRecord {
            at,
            record: RecordId(Uuid::from_u128(*number)),
            stored_id: Arc::from(*id),
        };
        records.iter().enumerate().map(record).collect()
    }

    #[test]
    fn an_id_of_another_record_is_noticed_and_one_of_the_same_response_is_not() {
        let ids = StoredIds::default();
        assert!(ids.note_applied(0, applied(&[(1, "a"), (2, "b")])).is_empty());
        // Sent again, also alone, and in another order than that of the results.
        assert!(ids.note_applied(0, applied(&[(2, "a")])).is_empty());
        assert_eq!(ids.note_applied(0, applied(&[(3, "c"), (4, "a"), (5, "e")])), [1]);
        assert!(ids.note_applied(1, applied(&[(4, "a")])).is_empty());
    }

    #[test]
    fn the_oldest_ids_are_forgotten() {
        let ids = StoredIds::default();
        for number in 0..=IDS_MAX as u128 {
            ids.note_applied(0, applied(&[(number, &number.to_string())]));
        }
        assert!(ids.note_applied(0, applied(&[(9, "0")])).is_empty());
        assert_eq!(ids.note_applied(0, applied(&[(9, "10000")])), [0]);
        assert_eq!(ids.0.lock().unwrap().records.len(), IDS_MAX);
    }
}
