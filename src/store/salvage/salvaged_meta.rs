//! What is salvaged besides records.

use crate::model::Damage;
use crate::store::counters::Counters;

/// Data of the store besides its records.
#[derive(Default)]
pub(super) struct SalvagedMeta {
    pub(super) device: Option<u128>,
    pub(super) paused: bool,
    pub(super) counters: Counters,
    pub(super) damage: Vec<Damage>,
    /// Of other components.
    pub(super) notes: Vec<(String, Vec<u8>)>,
    /// One more than the largest `seq` of a manifest row, once these were read.
    pub(super) listed_seq_end: Option<u64>,
    /// Whether every manifest row was read: then a record without a row is unlisted or no longer exists.
    pub(super) all_rows_read: bool,
    /// Whether every payload was read. An unlisted record has no row that would tell that its payload is missing.
    pub(super) all_payloads_read: bool,
}

impl SalvagedMeta {
    /// The `seq` from which on records are unlisted. Without the counters it follows from the rows that were read: a
    /// record too many is a duplicate for the server, one too few is lost.
    pub(super) fn first_unlisted_seq(&self) -> u64 {
        Some(self.counters.next_seq).filter(|seq| *seq > 0).or(self.listed_seq_end).unwrap_or(u64::MAX)
    }
}
