//! Bytes that changed, and rows that say what is not so.

use std::fs;
use std::path::Path;

use redb::ReadableTable as _;

use super::super::audit::audit;
use super::super::support::{Bench, error, id, look_at, open, record};
use super::{Became, LARGE, NOW, Sound, kept, large, places, sound, survey, with};
use crate::model::{RecordId, RecordState};
use crate::policy::agenda::Outcome;
use crate::store::Mend;
use crate::store::codec;
use crate::store::schema::{Header, ManifestRow, StoredState, Tables};

/// The record whose sealed bytes hold this offset.
fn owner(sound: &Sound, offset: usize) -> Option<RecordId> {
    let from = offset.saturating_sub(4096);
    for start in from..=offset {
        let bytes = &sound.bytes[start..];
        if let Ok(row) = codec::unseal::<Header>(bytes)
            && start + row.length() > offset
        {
            return Some(RecordId(uuid::Uuid::from_u128(row.header.id)));
        }
        if let Ok(chunk) = codec::unseal_chunk(bytes)
            && start + chunk.length() > offset
        {
            let whose = |number: &&u128| {
                crate::store::append::digest_of("Visits", Some("large"), &large(**number).payload)
                    == chunk.digest
            };
            return LARGE.iter().find(whose).map(|number| id(*number));
        }
    }
    None
}

/// Puts this into pages that hold nothing, and where they end early.
fn scatter(bytes: &mut [u8], some: &[u8]) {
    let free = places(bytes, &[0; 600]);
    assert!(!free.is_empty());
    let mut next = 0;
    for at in free {
        if at >= next {
            bytes[at + 20..][..some.len()].copy_from_slice(some);
            next = at + 2000;
        }
    }
}

fn flips(sound: &Sound, suspect: bool, seed: u64, rounds: usize) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let used = sound.bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut salvaged, mut lost) = (0, 0);
    for _ in 0..rounds {
        let offset = random.usize(..=used);
        let mut bytes = sound.bytes.clone();
        bytes[offset] ^= random.u8(1..);
        let dir = with(&bytes, suspect);
        let (mut queue, became) = survey(sound, dir.path());
        let damage = queue.backlog().unwrap().storage.damage;
        salvaged += damage.len();
        lost += became.lost.len();
        let hit = owner(sound, offset);
        assert!(became.lost.iter().all(|lost| Some(*lost) == hit), "{offset}: {became:?} {damage:?}");
        assert_eq!((became.released, became.doubled), (0, 0), "{offset}: {became:?} {damage:?}");
        assert_eq!(kept(dir.path()).len(), damage.len());
        match damage.first() {
            None => assert_eq!(became, Became::default()),
            Some(damage) => {
                assert_eq!(fs::read(&damage.kept_as).unwrap().len(), bytes.len());
                assert_eq!(damage.lost, became.lost.len() as u64, "{offset}");
                assert_eq!(queue.device(), sound.device);
            }
        }
        assert!(!dir.path().join("queue.redb.suspect").exists());
    }
    println!("{rounds} flips, {salvaged} met, {lost} records lost");
    assert!(lost <= salvaged);
    salvaged
}

/// More of them on demand.
fn rounds() -> usize {
    std::env::var("FIELDSYNC_FLIPS").map_or(50, |rounds| rounds.parse().unwrap())
}

#[test]
fn one_flipped_byte_costs_one_record_at_most() {
    assert!(flips(&sound(true), true, 20_261_122, rounds()) > rounds() / 10);
}

#[test]
fn a_flipped_byte_after_a_crash_costs_one_record_at_most() {
    assert!(flips(&sound(false), true, 20_261_123, rounds()) > rounds() / 10);
}

#[test]
fn without_a_suspicion_a_flipped_byte_does_not_keep_the_store_from_opening() {
    let sound = sound(true);
    let mut random = fastrand::Rng::with_seed(7);
    let used = sound.bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for _ in 0..rounds() {
        let mut bytes = sound.bytes.clone();
        bytes[random.usize(..=used)] ^= random.u8(1..);
        let dir = with(&bytes, false);
        open(dir.path()).backlog().unwrap();
    }
}

#[test]
fn bad_sectors_cost_the_records_on_them() {
    let sound = sound(true);
    let mut random = fastrand::Rng::with_seed(11);
    let used = sound.bytes.iter().rposition(|byte| *byte != 0).unwrap() / 4096;
    let mut most = 0;
    for _ in 0..12 {
        let mut bytes = sound.bytes.clone();
        for _ in 0..10 {
            let page = random.usize(1..=used) * 4096;
            bytes[page..page + 4096].fill_with(|| random.u8(..));
        }
        let dir = with(&bytes, true);
        let (_, became) = survey(&sound, dir.path());
        most = most.max(became.lost.len());
        println!(
            "{} lost, {} forgotten, {} doubled, {} released",
            became.lost.len(),
            became.forgotten,
            became.doubled,
            became.released
        );
        // A page holds about ten of them, and the large ones have many pages.
        assert!(became.lost.len() < 100, "{became:?}");
    }
    assert!(most > 0, "sectors were hit that hold records");
}

#[test]
fn a_mended_payload_is_not_replaced_by_the_one_before() {
    let mut bench = Bench::new();
    bench.append((1..=300).map(|number| record(number, None)).collect());
    let batch = bench.claim(1).unwrap().open.id;
    bench.close(batch, Outcome::Quarantine(error("no such day")));
    let before = fs::read(bench.dir.path().join("queue.redb")).unwrap();
    let mended: Box<str> = "{\"n\":1,\"mended\":true}".into();
    bench.run(Mend { id: id(1), payload: mended.clone() }).unwrap();
    let dir = bench.close_all();
    let path = dir.path().join("queue.redb");
    let mut bytes = fs::read(&path).unwrap();
    for at in places(&bytes, mended.as_bytes()) {
        bytes[at + 3] ^= 1;
    }
    // The payload before lies where nothing of it was overwritten yet.
    let is_first = |at: &usize| codec::unseal::<Header>(&before[*at..]).is_ok_and(|row| row.header.id == 1);
    let old = places(&before, codec::ROW_MAGIC).into_iter().find(is_first).unwrap();
    scatter(&mut bytes, &before[old..old + 200]);
    fs::write(&path, &bytes).unwrap();
    fs::write(dir.path().join("queue.redb.suspect"), []).unwrap();
    let mut queue = open(dir.path());
    audit(&mut queue);
    let damage = &queue.backlog().unwrap().storage.damage[0];
    assert_eq!((damage.salvaged, damage.lost), (299, 1));
    assert!(look_at(&queue, NOW, |view| view.entry(id(1))).is_none());
}

/// Changes the tables behind the store's back.
fn tamper(path: &Path, change: impl FnOnce(&mut Tables<'_>)) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut Tables::open(&transaction).unwrap());
    transaction.commit().unwrap();
    database.close().unwrap();
}

#[test]
fn rows_that_contradict_the_other_tables_are_not_believed() {
    let sound = sound(true);
    let dir = with(&sound.bytes, true);
    let first = |state| *sound.records.iter().find(|(_, (_, is, _))| *is == state).unwrap().0;
    let changes = [
        (RecordState::Pending, StoredState::Synced),
        (RecordState::Quarantined, StoredState::Pending),
        (RecordState::Synced, StoredState::Pending),
        (RecordState::Failed, StoredState::Synced),
    ];
    tamper(&dir.path().join("queue.redb"), |tables| {
        for (was, state) in changes {
            let id = first(was).0.as_u128();
            let row: ManifestRow = codec::decode(tables.manifest.get(id).unwrap().unwrap().value()).unwrap();
            let row = codec::encode(&ManifestRow { state, ..row }).unwrap();
            tables.manifest.insert(id, row.as_slice()).unwrap();
        }
    });
    let (mut queue, became) = survey(&sound, dir.path());
    assert_eq!(became, Became::default());
    assert_eq!(queue.backlog().unwrap().storage.damage.len(), 1);
}

#[test]
fn what_has_a_receipt_is_not_taken_from_the_raw_bytes() {
    let sound = sound(true);
    let dir = with(&sound.bytes, true);
    let path = dir.path().join("queue.redb");
    let mut header = None;
    tamper(&path, |tables| {
        let (place, receipt) = tables.receipts.first().unwrap().unwrap();
        let id = receipt.value().0;
        let row: ManifestRow = codec::decode(tables.manifest.get(id).unwrap().unwrap().value()).unwrap();
        let (record_type, key) = (row.record_type, row.key);
        let (place, bytes, digest) = (place.value(), row.payload_bytes, row.digest);
        let (submitter, created_at) = (row.submitter, row.created_at);
        header = Some(Header { id, place, record_type, key, submitter, created_at, bytes, digest });
        tables.manifest.insert(id, &[9u8][..]).unwrap();
    });
    let header = header.unwrap();
    let id = RecordId(uuid::Uuid::from_u128(header.id));
    let payload = &sound.records[&id].0.payload;
    let sealed = codec::seal(&codec::header(&header).unwrap(), payload.as_bytes()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    scatter(&mut bytes, &sealed);
    fs::write(&path, &bytes).unwrap();
    let (_, became) = survey(&sound, dir.path());
    assert_eq!(became, Became { forgotten: 1, ..Became::default() });
}
