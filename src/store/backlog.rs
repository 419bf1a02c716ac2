//! Builds the published backlog from the counters, the state in memory and a summary of the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::ReadableTable;

use super::body;
use super::codec;
use super::counters::RecordCounts;
use super::error::StoreError;
use super::lane_view;
use super::schema::{BatchRow, DUE_WHEN_UNBLOCKED, RecordHeader, Snapshot, StoredPhase};
use super::state::{Cursors, InFlight, QueueState};
use crate::model::{Backlog, SubmitterCounts};

/// Quarantined records to skip in search of the oldest waiting record.
const OLDEST_SCAN_RECORDS_MAX: usize = 100;
impl QueueState {
    /// Whether the summary of the tables may have changed. Appends, the most frequent operation, leave it unchanged.
    pub(super) fn needs_refresh(&self) -> bool {
        self.blockers_changed || self.waits_changed
    }

    /// Reads the summary from the tables: who blocks others, what waits longest, and what is due next.
    pub(super) fn refresh_summary(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        if self.blockers_changed {
            let stuck = self.counters.records.failed + self.counters.records.quarantined;
            self.blockers = if stuck > 0 {
                lane_view::find_blockers(snapshot, &self.open, self.key_space)?
            } else {
                Vec::new()
            };
            self.blockers_changed = false;
        }
        if self.waits_changed {
            self.oldest_pending_at = find_oldest_waiting(snapshot)?;
            let first = snapshot.retry.first()?;
            self.next_due_at = first.map(|(key, _)| key.value().0).filter(|due| *due < DUE_WHEN_UNBLOCKED);
            self.count_in_flight(snapshot);
            self.waits_changed = false;
        }
        Ok(())
    }

    /// Counts the records in flight by user. Reads each batch once per send.
    fn count_in_flight(&mut self, snapshot: &Snapshot) {
        let open = Arc::clone(&self.open);
        let is_in_flight = |row: &BatchRow| row.phase == StoredPhase::InFlight;
        self.in_flight.retain(|id, _| open.get(*id).is_some_and(is_in_flight));
        for (id, row) in open.iter().filter(|(_, row)| is_in_flight(row)) {
            if self.in_flight.contains_key(&id) {
                continue;
            }
            let mut of_batch = InFlight::new();
            for member in &row.members {
                let Ok(Some(header)) = body::read_header(&snapshot.payload, member.position) else {
                    continue;
                };
                let (pending, failed) = of_batch.entry(header.submitter).or_default();
                *(if member.failed { failed } else { pending }) += 1;
            }
            self.in_flight.insert(id, of_batch);
        }
    }

    /// What the store holds, by user.
    fn counts_by_submitter(&self) -> BTreeMap<u32, SubmitterCounts> {
        let submitters = &self.counters.submitters;
        let counts = submitters.iter().map(|(submitter, usage)| {
            let RecordCounts { pending, failed, synced, quarantined, bytes } = usage.records;
            let disk_bytes = usage.disk_bytes;
            let counts =
                SubmitterCounts { pending, failed, synced, quarantined, bytes, disk_bytes, syncing: 0 };
            (submitter, counts)
        });
        let mut counts: BTreeMap<u32, SubmitterCounts> = counts.collect();
        for (submitter, (pending, failed)) in self.in_flight.values().flatten() {
            if let Some(counts) = counts.get_mut(&submitters.entry_of(*submitter)) {
                counts.pending = counts.pending.saturating_sub(*pending);
                counts.failed = counts.failed.saturating_sub(*failed);
                counts.syncing += pending + failed;
            }
        }
        counts
    }

    /// The backlog without the state of the disk.
    pub(super) fn to_backlog(&self) -> Backlog {
        let members = |failed| {
            let in_flight = self.open.batch_rows().filter(|row| row.phase == StoredPhase::InFlight);
            let count = |row: &BatchRow| row.members.iter().filter(|member| member.failed == failed).count();
            in_flight.map(count).sum::<usize>() as u64
        };
        let (pending, failed) = (members(false), members(true));
        let counters = &self.counters;
        Backlog {
            pending: counters.records.pending.saturating_sub(pending),
            syncing: pending + failed,
            failed: counters.records.failed.saturating_sub(failed),
            synced: counters.records.synced,
            quarantined: counters.records.quarantined,
            bytes: counters.records.bytes,
            disk_bytes: counters.submitters.disk_bytes(),
            by_submitter: Arc::new(self.counts_by_submitter()),
            accepted_total: self.totals.accepted,
            settled_total: self.totals.settled,
            synced_total: self.totals.synced,
            quarantined_total: self.totals.quarantined,
            discarded_total: self.totals.discarded,
            oldest_pending_at: self.oldest_pending_at,
            next_due_at: self.next_due_at,
            claimable: !self.cursors.dry,
            paused: self.paused,
            pause: self.pause,
            blockers: self.blockers.clone(),
            ..Backlog::default()
        }
    }
}

/// When the oldest record was accepted that is neither settled nor quarantined.
fn find_oldest_waiting(snapshot: &Snapshot) -> Result<Option<u64>, StoreError> {
    let mut oldest = None;
    for range in Cursors::default().remaining_ranges() {
        for item in snapshot.payload.range(range)?.take(OLDEST_SCAN_RECORDS_MAX) {
            let (position, sealed) = item?;
            if snapshot.quarantine.get(position.value())?.is_some() {
                continue;
            }
            let Ok(row) = codec::unseal_row::<RecordHeader>(sealed.value()) else {
                continue;
            };
            let header = row.header;
            oldest = Some(oldest.map_or(header.created_at, |known: u64| known.min(header.created_at)));
            break;
        }
    }
    Ok(oldest)
}
