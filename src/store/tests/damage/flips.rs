//! Changed bytes, and rows with wrong content.

use std::fs;
use std::path::Path;

use redb::ReadableTable as _;

use super::super::audit::audit;
use super::super::support::{QueueBench, id, ids, open_queue_in, record, test_error, view_queue};
use super::{
    LARGE, NOW, SalvageLosses, SoundFile, directory_with, find_all, kept_files, large, make_sound_file,
    open_and_compare,
};
use crate::model::{QueuePosition, RecordId, RecordState};
use crate::policy::scheduler::Outcome;
use crate::store::ReplacePayload;
use crate::store::codec;
use crate::store::counters::{Counters, RecordCounts};
use crate::store::schema::{ManifestRow, RecordHeader, StoredState, Tables, meta};

/// The record whose sealed bytes contain this offset.
fn record_at(sound: &SoundFile, offset: usize) -> Option<RecordId> {
    let from = offset.saturating_sub(4096);
    for start in from..=offset {
        let bytes = &sound.bytes[start..];
        if let Ok(row) = codec::unseal_row::<RecordHeader>(bytes)
            && start + row.sealed_length() > offset
        {
            return Some(RecordId(uuid::Uuid::from_u128(row.header.id)));
        }
        if let Ok(chunk) = codec::unseal_chunk(bytes)
            && start + chunk.sealed_length() > offset
        {
            let whose = |number: &&u128| {
                crate::store::append::content_digest("Visits", Some("large"), &large(**number).payload)
                    == chunk.digest
            };
            return LARGE.iter().find(whose).map(|number| id(*number));
        }
    }
    None
}

/// Writes bytes into unused parts of pages.
fn write_into_free_pages(bytes: &mut [u8], some: &[u8]) {
    let free = find_all(bytes, &[0; 600]);
    assert!(!free.is_empty());
    let mut next = 0;
    for at in free {
        if at >= next {
            bytes[at + 20..][..some.len()].copy_from_slice(some);
            next = at + 2000;
        }
    }
}

fn flip_bytes(sound: &SoundFile, suspect: bool, seed: u64, rounds: usize) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let used = sound.bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut salvaged, mut lost) = (0, 0);
    for _ in 0..rounds {
        let offset = random.usize(..=used);
        let mut bytes = sound.bytes.clone();
        bytes[offset] ^= random.u8(1..);
        let dir = directory_with(&bytes, suspect);
        let (mut queue, losses) = open_and_compare(sound, dir.path());
        let damage = queue.read_backlog().unwrap().storage.damage;
        salvaged += damage.len();
        lost += losses.lost.len();
        let hit = record_at(sound, offset);
        assert!(losses.lost.iter().all(|lost| Some(*lost) == hit), "{offset}: {losses:?} {damage:?}");
        let SalvageLosses { unquarantined, duplicated, revived, .. } = losses;
        assert_eq!((unquarantined, duplicated, revived), (0, 0, 0), "{offset}: {losses:?} {damage:?}");
        assert_eq!(kept_files(dir.path()).len(), damage.len());
        match damage.first() {
            None => assert_eq!(losses, SalvageLosses::default()),
            Some(damage) => {
                assert_eq!(fs::read(&damage.kept_as).unwrap().len(), bytes.len());
                assert_eq!(damage.lost, losses.lost.len() as u64, "{offset}");
                assert_eq!(queue.device_id(), sound.device);
            }
        }
        assert!(!dir.path().join("queue.redb.suspect").exists());
    }
    println!("{rounds} flips, {salvaged} with damage, {lost} records lost");
    assert!(lost <= salvaged);
    salvaged
}

/// The environment may ask for more rounds.
fn flip_rounds() -> usize {
    std::env::var("FIELDSYNC_FLIPS").map_or(50, |rounds| rounds.parse().unwrap())
}

#[test]
fn one_flipped_byte_costs_one_record_at_most() {
    assert!(flip_bytes(&make_sound_file(true), true, 20_261_122, flip_rounds()) > flip_rounds() / 10);
}

#[test]
fn a_flipped_byte_after_a_crash_costs_one_record_at_most() {
    assert!(flip_bytes(&make_sound_file(false), true, 20_261_123, flip_rounds()) > flip_rounds() / 10);
}

#[test]
fn without_a_marker_the_store_opens_despite_a_flipped_byte() {
    let sound = make_sound_file(true);
    let mut random = fastrand::Rng::with_seed(7);
    let used = sound.bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for _ in 0..flip_rounds() {
        let mut bytes = sound.bytes.clone();
        bytes[random.usize(..=used)] ^= random.u8(1..);
        let dir = directory_with(&bytes, false);
        open_queue_in(dir.path()).read_backlog().unwrap();
    }
}

#[test]
fn bad_sectors_cost_only_the_records_on_them() {
    let sound = make_sound_file(true);
    let mut random = fastrand::Rng::with_seed(11);
    let used = sound.bytes.iter().rposition(|byte| *byte != 0).unwrap() / 4096;
    let mut most = 0;
    for _ in 0..12 {
        let mut bytes = sound.bytes.clone();
        for _ in 0..10 {
            let page = random.usize(1..=used) * 4096;
            bytes[page..page + 4096].fill_with(|| random.u8(..));
        }
        let dir = directory_with(&bytes, true);
        let (_, losses) = open_and_compare(&sound, dir.path());
        most = most.max(losses.lost.len());
        println!(
            "{} lost, {} forgotten, {} doubled, {} released",
            losses.lost.len(),
            losses.forgotten,
            losses.duplicated,
            losses.unquarantined
        );
        // A page holds about ten of them, and the large ones have many pages.
        assert!(losses.lost.len() < 100, "{losses:?}");
    }
    assert!(most > 0, "some sectors with records were hit");
}

#[test]
fn a_replaced_payload_is_not_overwritten_by_the_old_one() {
    let mut bench = QueueBench::new();
    bench.append((1..=300).map(|number| record(number, None)).collect());
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Quarantine(test_error("no such day")));
    let before = fs::read(bench.dir.path().join("queue.redb")).unwrap();
    let replacement: Box<str> = "{\"n\":1,\"edited\":true}".into();
    bench.run(ReplacePayload { id: id(1), payload: replacement.clone() }).unwrap();
    let dir = bench.close_all();
    let path = dir.path().join("queue.redb");
    let mut bytes = fs::read(&path).unwrap();
    for at in find_all(&bytes, replacement.as_bytes()) {
        bytes[at + 3] ^= 1;
    }
    // The old payload is still somewhere in the file.
    let is_first =
        |at: &usize| codec::unseal_row::<RecordHeader>(&before[*at..]).is_ok_and(|row| row.header.id == 1);
    let old = find_all(&before, codec::ROW_MAGIC).into_iter().find(is_first).unwrap();
    write_into_free_pages(&mut bytes, &before[old..old + 200]);
    fs::write(&path, &bytes).unwrap();
    fs::write(dir.path().join("queue.redb.suspect"), []).unwrap();
    let mut queue = open_queue_in(dir.path());
    audit(&mut queue);
    let damage = &queue.read_backlog().unwrap().storage.damage[0];
    assert_eq!((damage.salvaged, damage.lost), (299, 1));
    assert!(view_queue(&queue, NOW, |view| view.find_entry(id(1))).is_none());
}

/// Changes the tables while the store is closed.
fn change_tables(path: &Path, change: impl FnOnce(&mut Tables<'_>)) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut Tables::open_all(&transaction).unwrap());
    transaction.commit().unwrap();
    database.close().unwrap();
}

#[test]
fn rows_that_contradict_the_other_tables_are_not_trusted() {
    let sound = make_sound_file(true);
    let dir = directory_with(&sound.bytes, true);
    let first = |state| *sound.records.iter().find(|(_, (_, is, _))| *is == state).unwrap().0;
    let changes = [
        (RecordState::Pending, StoredState::Synced),
        (RecordState::Quarantined, StoredState::Pending),
        (RecordState::Synced, StoredState::Pending),
        (RecordState::Failed, StoredState::Synced),
    ];
    change_tables(&dir.path().join("queue.redb"), |tables| {
        for (was, state) in changes {
            let id = first(was).0.as_u128();
            let row: ManifestRow =
                codec::decode_row(tables.manifest.get(id).unwrap().unwrap().value()).unwrap();
            let row = codec::encode_row(&ManifestRow { state, ..row }).unwrap();
            tables.manifest.insert(id, row.as_slice()).unwrap();
        }
    });
    let (mut queue, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses, SalvageLosses::default());
    assert_eq!(queue.read_backlog().unwrap().storage.damage.len(), 1);
}

#[test]
fn a_record_with_a_receipt_is_not_carved_from_the_raw_bytes() {
    let sound = make_sound_file(true);
    let dir = directory_with(&sound.bytes, true);
    let path = dir.path().join("queue.redb");
    let mut header = None;
    change_tables(&path, |tables| {
        let (position, receipt) = tables.receipts.first().unwrap().unwrap();
        let id = receipt.value().0;
        let row: ManifestRow = codec::decode_row(tables.manifest.get(id).unwrap().unwrap().value()).unwrap();
        let (record_type, key) = (row.record_type, row.key);
        let (position, bytes, digest) = (position.value(), row.payload_bytes, row.digest);
        let (submitter, created_at) = (row.submitter, row.created_at);
        header = Some(RecordHeader { id, position, record_type, key, submitter, created_at, bytes, digest });
        tables.manifest.insert(id, &[9u8][..]).unwrap();
    });
    let header = header.unwrap();
    let id = RecordId(uuid::Uuid::from_u128(header.id));
    let payload = &sound.records[&id].0.payload;
    let sealed = codec::seal_row(&codec::encode_header(&header).unwrap(), payload.as_bytes()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    write_into_free_pages(&mut bytes, &sealed);
    fs::write(&path, &bytes).unwrap();
    let (_, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses, SalvageLosses { forgotten: 1, ..SalvageLosses::default() });
}

#[test]
fn an_absurd_steady_time_after_damage_is_ignored() {
    const ABSURD_MS: u64 = u64::MAX - 5;
    let sound = make_sound_file(true);
    let dir = directory_with(&sound.bytes, true);
    change_tables(&dir.path().join("queue.redb"), |tables| {
        let counters = tables.meta.get(meta::COUNTERS_KEY).unwrap().unwrap().value().to_vec();
        let counters: Counters = codec::decode_row(&counters).unwrap();
        let records = RecordCounts { pending: 9999, ..counters.records };
        let counters = Counters { records, steady: ABSURD_MS, ..counters };
        tables.meta.insert(meta::COUNTERS_KEY, codec::encode_row(&counters).unwrap().as_slice()).unwrap();
        let (position, id) = {
            let (position, receipt) = tables.receipts.first().unwrap().unwrap();
            (position.value(), receipt.value().0)
        };
        tables.receipts.insert(position, (id, ABSURD_MS)).unwrap();
    });
    let (queue, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses, SalvageLosses::default());
    assert!(queue.last_steady() < 1 << 40, "{}", queue.last_steady());
}

/// The sealed row of a record that was never appended.
fn forged_row(number: u128, position: u64, record_type: &str, key: Option<&str>) -> Vec<u8> {
    let (record_type, key) = (record_type.to_owned(), key.map(str::to_owned));
    let digest = crate::store::append::content_digest(&record_type, key.as_deref(), "{}");
    let header = RecordHeader {
        id: number,
        position,
        record_type,
        key,
        submitter: 0,
        created_at: 1 << 40,
        bytes: 2,
        digest,
    };
    codec::seal_row(&codec::encode_header(&header).unwrap(), b"{}").unwrap()
}

#[test]
fn an_impossible_queue_position_is_replaced_by_one_that_claims_examine() {
    let sound = make_sound_file(true);
    let mut bytes = sound.bytes.clone();
    bytes[..32].fill(0);
    let position = |class: u64, seq: u64| class << 56 | seq;
    let some = [
        forged_row(1001, position(200, 9001), "Visits", Some("key")),
        forged_row(1002, position(4, (1 << 56) - 1), "Visits", Some("key")),
        forged_row(1003, position(4, 9003), "Visits", Some("key")),
        forged_row(1004, position(3, 9003), "Visits", Some("key")),
    ];
    write_into_free_pages(&mut bytes, &some.concat());
    let dir = directory_with(&bytes, false);
    fs::write(dir.path().join("queue.redb.suspect"), b"2").unwrap();
    drop(open_and_compare(&sound, dir.path()));
    let mut bench = QueueBench::open_at(dir);
    bench.limits.max_bytes = 1 << 30;
    bench.append(vec![record(1005, Some("key"))]);
    let claimed = ids(&bench.claim(1000).unwrap());
    assert!((1001..=1005).all(|number| claimed.contains(&number)), "{claimed:?}");
    audit(bench.queue_mut());
}

#[test]
fn records_that_no_server_accepts_are_not_carved_from_raw_bytes() {
    let sound = make_sound_file(true);
    let mut bytes = sound.bytes.clone();
    bytes[..32].fill(0);
    let some = [
        forged_row(1001, QueuePosition::new(5, 9001).0, "Visits\0", None),
        forged_row(1002, QueuePosition::new(5, 9002).0, "Visits", Some("key\u{1b}[2J")),
        forged_row(1003, QueuePosition::new(5, 9003).0, "", None),
        forged_row(1004, QueuePosition::new(5, 9004).0, "Visits", Some("key")),
    ];
    write_into_free_pages(&mut bytes, &some.concat());
    let dir = directory_with(&bytes, false);
    fs::write(dir.path().join("queue.redb.suspect"), b"2").unwrap();
    let (queue, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses.lost, []);
    let known = [1001, 1002, 1003, 1004]
        .map(|number| view_queue(&queue, NOW, |view| view.find_entry(id(number))).is_some());
    assert_eq!(known, [false, false, false, true]);
}

#[test]
fn references_to_pages_larger_than_the_file_cost_no_record() {
    let sound = make_sound_file(true);
    let mut bytes = sound.bytes.clone();
    bytes[..64].fill(0xaa);
    let mut changed = 0;
    // Branch pages: two bytes, the number of keys, padding, checksums, and the references.
    for page in bytes.chunks_exact_mut(4096).filter(|page| page[0] == 2) {
        let children = usize::from(u16::from_le_bytes([page[2], page[3]])) + 1;
        for reference in page[8 + 16 * children..][..8 * children].chunks_exact_mut(8) {
            reference[7] |= 20 << 3;
            changed += 1;
        }
    }
    assert!(changed > 10, "{changed}");
    let dir = directory_with(&bytes, false);
    let (mut queue, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses, SalvageLosses::default());
    assert_eq!(queue.read_backlog().unwrap().storage.damage.len(), 1);
}
