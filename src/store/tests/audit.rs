//! What must be true of the tables, their counters and the memory beside them after every commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::BatchPhase;
use crate::store::codec;
use crate::store::holds::HELD;
use crate::store::queue::Queue;
use crate::store::schema::{BatchRow, Counters, Header, ManifestRow, StoredState};

/// Reads everything and compares all with all.
pub(super) fn audit(queue: &Queue) {
    let tables = queue.snapshot().unwrap();
    let rows: BTreeMap<u64, (u128, ManifestRow)> = tables
        .manifest
        .range::<u128>(..)
        .unwrap()
        .map(|item| {
            let (id, row) = item.unwrap();
            let row: ManifestRow = codec::decode(row.value()).unwrap();
            (row.place, (id.value(), row))
        })
        .collect();
    let of = |states: &[StoredState]| -> BTreeMap<u64, u128> {
        let wanted = rows.iter().filter(|(_, (_, row))| states.contains(&row.state));
        wanted.map(|(place, (id, _))| (*place, *id)).collect()
    };
    let unsettled = of(&[StoredState::Pending, StoredState::Failed, StoredState::Quarantined]);

    // Payloads: those of unsettled records, each with its own header and size.
    let mut bytes = 0;
    let mut payloads = BTreeMap::new();
    for item in tables.payload.range::<u64>(..).unwrap() {
        let (place, sealed) = item.unwrap();
        let (header, body): (Header, _) = codec::unseal(sealed.value()).unwrap();
        let row = &rows[&place.value()].1;
        assert_eq!(u64::from(row.payload_bytes), body.len() as u64);
        assert_eq!((&row.key, &row.record_type), (&header.key, &header.record_type));
        bytes += body.len() as u64;
        payloads.insert(place.value(), header.id);
    }
    assert_eq!(payloads, unsettled, "payloads are those of unsettled records");

    let quarantine: BTreeMap<u64, u128> = tables
        .quarantine
        .range::<u64>(..)
        .unwrap()
        .map(|item| item.map(|(place, id)| (place.value(), id.value())).unwrap())
        .collect();
    assert_eq!(quarantine, of(&[StoredState::Quarantined]));
    let receipts: BTreeMap<u64, u128> = tables
        .receipts
        .range::<u64>(..)
        .unwrap()
        .map(|item| item.map(|(place, value)| (place.value(), value.value().0)).unwrap())
        .collect();
    assert_eq!(receipts, of(&[StoredState::Synced]));

    // Open batches: no record in two, and what they say of their members is so.
    let mut claimed = BTreeMap::new();
    let mut in_flight = (0, 0);
    for item in tables.batches.range::<u128>(..).unwrap() {
        let (id, row) = item.unwrap();
        let row: BatchRow = codec::decode(row.value()).unwrap();
        assert_eq!(queue.state().open.get(&id.value()), Some(&row), "memory and disk agree");
        assert!(!row.members.is_empty(), "an empty batch stays open");
        assert!(row.members.is_sorted_by_key(|member| member.place));
        assert_eq!(row.bytes, row.members.iter().map(|member| u64::from(member.bytes)).sum::<u64>());
        for member in &row.members {
            assert!(claimed.insert(member.place, id.value()).is_none(), "a record is in two batches");
            let (record, entry) = &rows[&member.place];
            assert_eq!((*record, entry.payload_bytes), (member.id, member.bytes));
            let state = if member.failed { StoredState::Failed } else { StoredState::Pending };
            assert_eq!(entry.state, state);
            if row.phase == BatchPhase::InFlight {
                *(if member.failed { &mut in_flight.1 } else { &mut in_flight.0 }) += 1;
            }
        }
    }
    assert_eq!(queue.state().claimed, claimed);
    assert_eq!(queue.state().open.len() as u64, tables.batches.range::<u128>(..).unwrap().count() as u64);

    audit_waits(queue, &rows, &claimed);

    let count = |state| of(&[state]).len() as u64;
    let counters = Counters {
        next_seq: queue.state().counters.next_seq,
        pending: count(StoredState::Pending),
        failed: count(StoredState::Failed),
        synced: count(StoredState::Synced),
        quarantined: count(StoredState::Quarantined),
        bytes,
    };
    assert_eq!(queue.state().counters, counters, "counters equal a full scan");
    let stored: Counters = codec::decode(tables.meta.get("counters").unwrap().unwrap().value()).unwrap();
    assert_eq!(stored, counters, "and so do those on disk");
    let backlog = queue.backlog().unwrap();
    assert_eq!(
        (backlog.pending, backlog.failed, backlog.syncing, backlog.bytes),
        (
            counters.pending - in_flight.0,
            counters.failed - in_flight.1,
            in_flight.0 + in_flight.1,
            counters.bytes
        )
    );
}

/// Every failed record outside of batches has a due time or somebody who holds it.
fn audit_waits(queue: &Queue, rows: &BTreeMap<u64, (u128, ManifestRow)>, claimed: &BTreeMap<u64, u128>) {
    let tables = queue.snapshot().unwrap();
    let failed: BTreeSet<(u64, u64)> = rows
        .iter()
        .filter(|(place, (_, row))| row.state == StoredState::Failed && !claimed.contains_key(place))
        .map(|(place, (_, row))| (row.due_at.unwrap_or(HELD), *place))
        .collect();
    let retry: BTreeSet<(u64, u64)> =
        tables.retry.range::<(u64, u64)>(..).unwrap().map(|item| item.unwrap().0.value()).collect();
    assert_eq!(retry, failed, "failed records outside of batches wait for a time");

    let mut holds = BTreeSet::new();
    for item in tables.holds.range::<(&str, u64)>(..).unwrap() {
        let entry = item.unwrap().0;
        let (key, place) = entry.value();
        let row = &rows[&place].1;
        assert_eq!(row.key.as_deref(), Some(key));
        assert!(row.state != StoredState::Synced && !claimed.contains_key(&place), "holds nobody needs");
        holds.insert(place);
    }
    for (place, (_, row)) in rows {
        let outside = !claimed.contains_key(place);
        let behind = matches!(row.state, StoredState::Failed | StoredState::Quarantined);
        if row.key.is_some() && outside && behind {
            assert!(holds.contains(place), "a record that failed holds back later ones of its key");
        }
        if outside && row.state == StoredState::Failed && row.due_at.is_none() {
            let mut earlier = rows.range(..*place).filter(|(_, (_, other))| other.key == row.key);
            assert!(
                earlier.any(|(place, _)| claimed.contains_key(place) || holds.contains(place)),
                "nobody holds a record that waits for its holder"
            );
        }
    }
}
