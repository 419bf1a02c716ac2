//! Checks invariants of the tables, the counters and the state in memory. They must hold after every commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use redb::ReadOnlyTable;

use crate::model::{Backlog, Blocker, QueuePosition, SubmitterCounts};
use crate::store::body;
use crate::store::codec;
use crate::store::counters::{Counters, RecordCounts, SubmitterCounters};
use crate::store::disk_use::estimate_server_receipt_bytes;
use crate::store::key_space::KeySpace;
use crate::store::lane_view;
use crate::store::open_batches::OpenBatches;
use crate::store::queue::Queue;
use crate::store::schema::{
    BatchRow, DUE_WHEN_UNBLOCKED, ManifestRow, MemberRow, Snapshot, StoredPhase, StoredState,
};
use crate::store::server_receipts::decode_receipt;
use crate::store::unlisted::{UNLISTED_RECORDS_MAX, UnlistedRecords};

/// Reads everything and compares it.
pub(super) fn audit(queue: &mut Queue) {
    let tables = queue.take_snapshot().unwrap();
    let unlisted = UnlistedRecords::read_from(&tables.meta, &tables.payload).unwrap();
    let rows = rows_with_unlisted(&tables, &unlisted);
    let of = |states: &[StoredState]| -> BTreeMap<u64, u128> {
        let wanted = rows.iter().filter(|(_, (_, row))| states.contains(&row.state));
        wanted.map(|(position, (id, _))| (*position, *id)).collect()
    };
    let unsettled = of(&[StoredState::Pending, StoredState::Failed, StoredState::Quarantined]);

    // Payloads are those of unsettled records, each with the right header and size.
    let mut payloads = BTreeMap::new();
    let mut chunked = 0;
    for item in tables.payload.range::<u64>(..).unwrap() {
        let (position, _) = item.unwrap();
        let (header, body) =
            body::read_payload(&tables.payload, &tables.chunks, position.value()).unwrap().unwrap();
        chunked += tables.chunks.range((position.value(), 0)..=(position.value(), u32::MAX)).unwrap().count();
        let row = &rows[&position.value()].1;
        assert_eq!(u64::from(row.payload_bytes), body.len() as u64);
        assert_eq!((&row.key, &row.record_type), (&header.key, &header.record_type));
        assert_eq!((header.position, header.bytes), (position.value(), row.payload_bytes));
        assert_eq!((header.digest, header.submitter), (row.digest, row.submitter));
        payloads.insert(position.value(), header.id);
    }
    assert_eq!(tables.chunks.range::<(u64, u32)>(..).unwrap().count(), chunked, "no chunk without its row");
    assert_eq!(payloads, unsettled, "payloads are those of unsettled records");

    let quarantine = listed_ids(&tables.quarantine);
    assert_eq!(quarantine, of(&[StoredState::Quarantined]));
    let receipts: BTreeMap<u64, u128> = tables
        .receipts
        .range::<u64>(..)
        .unwrap()
        .map(|item| item.map(|(position, value)| (position.value(), value.value().0)).unwrap())
        .collect();
    assert_eq!(receipts, of(&[StoredState::Synced, StoredState::Discarded]));
    let discarded = tables.discarded.as_ref().map(listed_ids).unwrap_or_default();
    assert_eq!(discarded, of(&[StoredState::Discarded]));
    let server_receipt_bytes = audit_server_receipts(&tables, &receipts);

    // No record is in two open batches, and the batches describe their members correctly.
    let mut open = OpenBatches::default();
    let mut claimed = BTreeMap::new();
    let mut in_flight = (0, 0);
    for item in tables.batches.range::<u128>(..).unwrap() {
        let (id, row) = item.unwrap();
        let row: BatchRow = codec::decode_row(row.value()).unwrap();
        assert!(!row.members.is_empty(), "an empty batch stays open");
        audit_order(&row, &rows);
        assert_eq!(row.bytes, row.members.iter().map(|member| u64::from(member.bytes)).sum::<u64>());
        for member in &row.members {
            assert!(claimed.insert(member.position, id.value()).is_none(), "a record is in two batches");
            let (record, entry) = &rows[&member.position];
            assert_eq!((*record, entry.payload_bytes), (member.id, member.bytes));
            let state = if member.failed { StoredState::Failed } else { StoredState::Pending };
            assert_eq!(entry.state, state);
            if row.phase == StoredPhase::InFlight {
                *(if member.failed { &mut in_flight.1 } else { &mut in_flight.0 }) += 1;
            }
        }
        open.insert_batch(id.value(), row);
    }
    assert_eq!(*queue.state().open, open, "memory and disk agree");

    audit_waits(queue, &rows, &claimed);

    let known = queue.state().counters.clone();
    let counters = Counters {
        records: recount_records(&rows),
        submitters: recount_submitters(&known.submitters, &rows),
        server_receipt_bytes,
        discarded: discarded.len() as u64,
        ..known.clone()
    };
    assert_eq!(known, counters, "counters equal a full scan");
    let mut on_disk = Counters::read_from(&tables.meta).unwrap();
    unlisted.count_into(&mut on_disk).unwrap();
    assert_eq!(on_disk, counters, "and so do those on disk");
    let backlog = queue.read_backlog().unwrap();
    audit_submitters(queue, &backlog, &rows);
    audit_blockers(queue, &backlog);
    let waiting =
        rows.values().filter(|(_, row)| matches!(row.state, StoredState::Pending | StoredState::Failed));
    assert_eq!(backlog.oldest_pending_at, waiting.map(|(_, row)| row.created_at).min());
    let first = tables.retry.range::<(u64, u64)>(..).unwrap().next().map(|item| item.unwrap().0.value().0);
    assert_eq!(backlog.next_due_at, first.filter(|due| *due < DUE_WHEN_UNBLOCKED));
    assert_eq!(
        (backlog.pending, backlog.failed, backlog.syncing, backlog.bytes),
        (
            counters.records.pending - in_flight.0,
            counters.records.failed - in_flight.1,
            in_flight.0 + in_flight.1,
            counters.records.bytes
        )
    );
}

/// All records by position: those of the manifest, and those whose rows follow from their payloads.
fn rows_with_unlisted(tables: &Snapshot, unlisted: &UnlistedRecords) -> BTreeMap<u64, (u128, ManifestRow)> {
    let items = tables.manifest.range::<u128>(..).unwrap();
    let mut rows: BTreeMap<u64, (u128, ManifestRow)> = items
        .map(|item| {
            let (id, row) = item.unwrap();
            let row: ManifestRow = codec::decode_row(row.value()).unwrap();
            (row.position, (id.value(), row))
        })
        .collect();
    assert!(unlisted.len() <= UNLISTED_RECORDS_MAX, "few records are unlisted");
    for id in unlisted.ids((Bound::Unbounded, Bound::Unbounded)) {
        let row = unlisted.row_of(id).unwrap();
        assert!(rows.insert(row.position, (id, row)).is_none(), "an unlisted record is listed");
    }
    rows
}

/// The ids in a table, by position.
fn listed_ids(table: &ReadOnlyTable<u64, u128>) -> BTreeMap<u64, u128> {
    let items = table.range::<u64>(..).unwrap();
    items.map(|item| item.map(|(position, id)| (position.value(), id.value())).unwrap()).collect()
}

/// The server's receipts can be decoded and belong to SYNCED records. Returns their estimated disk use.
fn audit_server_receipts(tables: &Snapshot, receipts: &BTreeMap<u64, u128>) -> u64 {
    let Some(table) = &tables.server_receipts else { return 0 };
    let mut bytes = 0;
    for item in table.range::<u64>(..).unwrap() {
        let (position, row) = item.unwrap();
        decode_receipt(row.value()).unwrap();
        assert!(receipts.contains_key(&position.value()), "the server's receipt of no record");
        bytes += estimate_server_receipt_bytes(row.value().len());
    }
    bytes
}

/// Counts all records, and the bytes of the unsettled ones.
fn recount_records(rows: &BTreeMap<u64, (u128, ManifestRow)>) -> RecordCounts {
    let count = |state| rows.values().filter(|(_, row)| row.state == state).count() as u64;
    let unsettled = rows.values().filter(|(_, row)| row.state.is_unsettled());
    RecordCounts {
        pending: count(StoredState::Pending),
        failed: count(StoredState::Failed),
        synced: count(StoredState::Synced),
        quarantined: count(StoredState::Quarantined),
        bytes: unsettled.map(|(_, row)| u64::from(row.payload_bytes)).sum(),
    }
}

/// Counts all records by user, under the same uids.
fn recount_submitters(
    known: &SubmitterCounters,
    rows: &BTreeMap<u64, (u128, ManifestRow)>,
) -> SubmitterCounters {
    let mut submitters = known.to_zeroed();
    for (_, row) in rows.values() {
        submitters.count_change(row, None, Some(row.state));
    }
    submitters
}

/// The counts of all users add up to the totals and match the rows.
fn audit_submitters(queue: &Queue, backlog: &Backlog, rows: &BTreeMap<u64, (u128, ManifestRow)>) {
    let mut counts: BTreeMap<u32, SubmitterCounts> = BTreeMap::new();
    for (_, row) in rows.values() {
        if row.state == StoredState::Discarded {
            continue;
        }
        let uid = queue.state().counters.submitters.entry_of(row.submitter);
        let of = counts.entry(uid).or_default();
        *match row.state {
            StoredState::Pending | StoredState::Failed if queue.state().open.is_in_flight(row.position) => {
                &mut of.syncing
            }
            StoredState::Pending => &mut of.pending,
            StoredState::Failed => &mut of.failed,
            StoredState::Synced => &mut of.synced,
            StoredState::Quarantined => &mut of.quarantined,
            StoredState::Discarded => continue,
        } += 1;
        if row.state.is_unsettled() {
            of.bytes += u64::from(row.payload_bytes);
            of.disk_bytes += row.disk_bytes();
        }
    }
    assert_eq!(*backlog.by_submitter, counts);
    assert_eq!(counts.values().map(|counts| counts.disk_bytes).sum::<u64>(), backlog.disk_bytes);
}

/// The known blocking records are those that a full search finds.
fn audit_blockers(queue: &Queue, backlog: &Backlog) {
    let sorted = |mut blockers: Vec<Blocker>| {
        blockers.sort_unstable_by_key(|blocker| blocker.id.0);
        blockers
    };
    let found = lane_view::find_blockers(
        &queue.take_snapshot().unwrap(),
        &queue.state().open,
        queue.state().key_space,
    )
    .unwrap();
    assert_eq!(sorted(backlog.blockers.clone()), sorted(found));
}

/// Every failed record outside of batches has a due time or is blocked by another.
fn audit_waits(queue: &Queue, rows: &BTreeMap<u64, (u128, ManifestRow)>, claimed: &BTreeMap<u64, u128>) {
    let tables = queue.take_snapshot().unwrap();
    let failed: BTreeSet<(u64, u64)> = rows
        .iter()
        .filter(|(position, (_, row))| row.state == StoredState::Failed && !claimed.contains_key(position))
        .map(|(position, (_, row))| (row.due_at.unwrap_or(DUE_WHEN_UNBLOCKED), *position))
        .collect();
    let retry: BTreeSet<(u64, u64)> =
        tables.retry.range::<(u64, u64)>(..).unwrap().map(|item| item.unwrap().0.value()).collect();
    assert_eq!(retry, failed, "failed records outside of batches wait for a time");

    let shared = queue.state().key_space == KeySpace::Shared;
    let lane_position = |row: &ManifestRow| {
        let owner = if shared { u32::MAX } else { row.submitter };
        Some((owner, row.key.clone()?, QueuePosition(row.position).seq(), row.position))
    };
    let lanes: BTreeSet<(u32, String, u64, u64)> = tables
        .lanes
        .range::<(u32, &str, u64)>(..)
        .unwrap()
        .map(|item| {
            let (entry, position) = item.unwrap();
            let (owner, key, seq) = entry.value();
            (owner, key.to_owned(), seq, position.value())
        })
        .collect();
    let unsettled = rows.values().filter(|(_, row)| row.state.is_unsettled());
    let keyed: BTreeSet<_> = unsettled.filter_map(|(_, row)| lane_position(row)).collect();
    assert_eq!(lanes, keyed, "the lanes are the unsettled records with a key");
    let noted: bool = codec::decode_row(tables.meta.get("shared_keys").unwrap().unwrap().value()).unwrap();
    assert_eq!(noted, shared, "the key space of the lanes is saved");
    for (position, (_, row)) in rows {
        if row.state == StoredState::Failed && row.due_at.is_none() && !claimed.contains_key(position) {
            let own = lane_position(row).unwrap();
            let first = lanes.range((own.0, own.1.clone(), 0, 0)..).next();
            assert_ne!(first, Some(&own), "no predecessor blocks a record that waits for one");
        }
    }
}

/// Members are in queue order, except that records of one lane are in order of arrival. Batches keep the order in
/// which they were created: where keys have been shared since, that is the order within each user's records.
fn audit_order(row: &BatchRow, rows: &BTreeMap<u64, (u128, ManifestRow)>) {
    let key = |member: &MemberRow| {
        let row = &rows[&member.position].1;
        Some((row.submitter, row.key.clone()?))
    };
    let mut last: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for member in &row.members {
        if let Some(key) = key(member) {
            let seq = QueuePosition(member.position).seq();
            assert!(last.insert(key, seq).is_none_or(|before| before < seq), "a key out of order");
        }
    }
    let free = row.members.iter().filter(|member| key(member).is_none());
    assert!(free.is_sorted_by_key(|member| member.position));
}
