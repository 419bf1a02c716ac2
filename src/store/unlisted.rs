//! Records that a lone append stored: their payloads are on disk, their manifest rows and the counters are not yet.
//!
//! Each tree that a commit touches costs its pages, wherever they are in the file. So the commit of a single new record
//! writes its payload, and its place in its lane if it has a key. The rest follows from the payload: the next commit that
//! is larger writes it, and the next start and every reader derive it. A payload whose `seq` the counters on disk have
//! not reached is unlisted; there are only a few.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTable, Table};

use super::codec;
use super::counters::Counters;
use super::error::StoreError;
use super::schema::{ManifestRow, RecordHeader, StoredState, meta, seq_of};
use crate::model::{PRIORITY_MAX, QueuePosition};

/// Unlisted records at most: each reader reads all of them.
pub(super) const UNLISTED_RECORDS_MAX: usize = 64;
/// A lone append after this time writes the counters again: after a crash, the steady clock continues from them.
pub(super) const UNLISTED_TIME_MAX_MS: u64 = 60_000;

/// The unlisted records.
#[derive(Default)]
pub(super) struct UnlistedRecords {
    by_id: BTreeMap<u128, RecordHeader>,
    /// Whether the header of one of them cannot be read.
    is_damaged: bool,
}

impl UnlistedRecords {
    /// Reads them from the tables.
    pub(super) fn read_from(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        payload: &impl ReadableTable<u64, &'static [u8]>,
    ) -> Result<Self, StoreError> {
        let mut found = Self::default();
        // A store that is being made has no counters.
        let Some(counters) = meta.get(meta::COUNTERS_KEY)? else { return Ok(found) };
        let next_seq = codec::decode_row::<Counters>(counters.value())?.next_seq;
        for priority in 0..=PRIORITY_MAX {
            let (first, end) = (QueuePosition::new(priority, next_seq).0, end_of_class(priority));
            for item in payload.range(first..end)?.take(UNLISTED_RECORDS_MAX + 1) {
                match codec::unseal_row::<RecordHeader>(item?.1.value()) {
                    Ok(row) => found.insert(row.header),
                    Err(_) => found.is_damaged = true,
                }
            }
        }
        Ok(found)
    }

    pub(super) fn insert(&mut self, header: RecordHeader) {
        self.by_id.insert(header.id, header);
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The manifest row of a record, if it is one of them.
    pub(super) fn row_of(&self, id: u128) -> Option<ManifestRow> {
        self.by_id.get(&id).cloned().map(ManifestRow::new_pending)
    }

    /// Their ids in a range, in order.
    pub(super) fn ids(&self, range: (Bound<u128>, Bound<u128>)) -> impl Iterator<Item = u128> {
        self.by_id.range(range).map(|(id, _)| *id)
    }

    /// Counts them, each with its commit, as their appends did in memory. Fails if one of them cannot be read.
    pub(super) fn count_into(&self, counters: &mut Counters) -> Result<(), StoreError> {
        if self.is_damaged {
            return Err(StoreError::Inconsistent("a new record cannot be read"));
        }
        let mut headers: Vec<&RecordHeader> = self.by_id.values().collect();
        headers.sort_unstable_by_key(|header| seq_of(header.position));
        for header in headers {
            let row = ManifestRow::new_pending(header.clone());
            counters.count_change(&row, None, Some(StoredState::Pending));
            counters.next_seq = seq_of(row.position) + 1;
            counters.commits += 1;
        }
        Ok(())
    }

    /// Writes their manifest rows, and leaves none.
    pub(super) fn write_rows(
        &mut self,
        manifest: &mut Table<'_, u128, &'static [u8]>,
    ) -> Result<(), StoreError> {
        for (id, header) in std::mem::take(&mut self.by_id) {
            manifest.insert(id, codec::encode_row(&ManifestRow::new_pending(header))?.as_slice())?;
        }
        Ok(())
    }
}

/// The position behind all records of a priority.
fn end_of_class(priority: u8) -> u64 {
    QueuePosition::new(priority, 0).0 + (1 << 56)
}
