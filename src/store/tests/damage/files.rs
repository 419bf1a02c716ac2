//! Files that redb cannot open.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use super::super::audit::audit;
use super::super::support::{QueueBench, open_queue_in};
use super::{
    SalvageLosses, SoundFile, directory_with, find_all, kept_files, make_sound_file, open_and_compare,
};
use crate::model::NewRecord;
use crate::store::{
    AcknowledgeDamage, KeySpace, NoteChange, OpenError, Queue, Salvage, SaveNote, WaitingNotes,
};

/// Opens a file that redb cannot open, and returns what was lost.
fn damage_found_in(sound: &SoundFile, bytes: &[u8]) -> (SalvageLosses, crate::model::Damage) {
    let dir = directory_with(bytes, false);
    let (mut queue, losses) = open_and_compare(sound, dir.path());
    let damage = queue.read_backlog().unwrap().storage.damage;
    assert_eq!(damage.len(), 1);
    assert_eq!(fs::read(&damage[0].kept_as).unwrap(), bytes, "the damaged file is kept as it was");
    let known = sound.unsettled().count() + losses.duplicated + losses.revived;
    assert_eq!(damage[0].salvaged, (known - losses.lost.len()) as u64);
    (losses, damage.into_iter().next().unwrap())
}

#[test]
fn a_file_that_redb_cannot_open_is_salvaged() {
    let sound = make_sound_file(true);
    let mut header = sound.bytes.clone();
    header[..64].fill(0xaa);
    let (losses, _) = damage_found_in(&sound, &header);
    assert_eq!(losses, SalvageLosses::default(), "the commit slots lead to everything");
    header[..4096].fill(0);
    let (losses, damage) = damage_found_in(&sound, &header);
    assert_eq!((losses.lost, damage.lost), (Vec::new(), 0));
    let (losses, damage) = damage_found_in(&sound, &sound.bytes[..sound.bytes.len() / 2]);
    println!("{} lost of a file cut in half, {} of them known", losses.lost.len(), damage.lost);
    assert!(losses.lost.len() < 200 && damage.salvaged > 100);
}

#[test]
fn a_file_without_records_is_replaced_by_an_empty_queue() {
    let mut sqlite = b"SQLite format 3\0".to_vec();
    sqlite.resize(8192, 1);
    for foreign in [&b""[..], b"not a store at all", &vec![0; 100_000], &sqlite] {
        let dir = directory_with(foreign, false);
        let mut queue = open_queue_in(dir.path());
        audit(&mut queue);
        let backlog = queue.read_backlog().unwrap();
        assert_eq!((backlog.to_go(), backlog.storage.damage[0].salvaged), (0, 0));
        assert_eq!(fs::read(&kept_files(dir.path())[0]).unwrap(), foreign);
    }
}

#[test]
fn a_marker_without_damage_is_removed_and_changes_nothing() {
    let sound = make_sound_file(true);
    let dir = directory_with(&sound.bytes, true);
    let (_, losses) = open_and_compare(&sound, dir.path());
    assert_eq!((losses, kept_files(dir.path())), (SalvageLosses::default(), Vec::new()));
    assert!(!dir.path().join("queue.redb.suspect").exists());
}

/// A store whose notes take a page each.
fn store_with_notes(count: u8) -> (tempfile::TempDir, Vec<(String, Vec<u8>)>) {
    let mut bench = QueueBench::new();
    let notes: Vec<(String, Vec<u8>)> = (0..count)
        .map(|n| (format!("telemetry/day/2026-{:02}-{:02}", 1 + n / 30, 1 + n % 30), vec![b'A' + n; 3500]))
        .collect();
    let mut waiting = WaitingNotes::default();
    for (name, note) in &notes {
        waiting.add_change(NoteChange { name: name.clone().into(), note: Some(note.clone()) });
    }
    bench.queue_mut().save_allocator_state(&mut waiting).unwrap();
    bench.run(SaveNote { name: "restarts", note: b"of another component".to_vec() });
    (bench.close_all(), notes)
}

#[test]
fn a_page_that_cannot_be_read_loses_only_the_notes_in_it() {
    let (dir, notes) = store_with_notes(60);
    let path = dir.path().join("queue.redb");
    let sound = fs::read(&path).unwrap();
    for damaged in [vec![0], vec![30], vec![59], vec![3, 12, 13, 45]] {
        let mut bytes = sound.clone();
        for index in &damaged {
            for at in find_all(&sound, &notes[*index].1) {
                let page = at / 4096 * 4096;
                bytes[page..page + 4096].fill(0xa5);
            }
        }
        let dir = directory_with(&bytes, true);
        let queue = open_queue_in(dir.path());
        let found = queue.read_notes("").unwrap();
        let is_found = |name: &str| found.iter().any(|(found, _)| found == name);
        let lost: Vec<&str> =
            notes.iter().map(|(name, _)| name.as_str()).filter(|name| !is_found(name)).collect();
        assert!((1..=2 * damaged.len()).contains(&lost.len()), "{damaged:?}: {lost:?}");
        // The first page also contains what is small.
        assert!(is_found("restarts") || damaged[0] == 0, "{damaged:?}");
    }
}

#[test]
fn damage_notes_accumulate_until_they_are_acknowledged() {
    let dir = directory_with(b"no store", false);
    drop(open_queue_in(dir.path()));
    fs::write(dir.path().join("queue.redb.suspect"), []).unwrap();
    let path = dir.path().join("queue.redb");
    let mut bytes = fs::read(&path).unwrap();
    for at in find_all(&bytes, b"counters") {
        bytes[at] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let mut bench = QueueBench::open_at(dir);
    let damage = bench.queue_mut().read_backlog().unwrap().storage.damage;
    assert_eq!(damage.len(), 2);
    assert_ne!(damage[0].kept_as, damage[1].kept_as);
    bench.reopen_queue();
    assert_eq!(bench.run(AcknowledgeDamage), damage);
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage, []);
    bench.reopen_queue();
    assert_eq!(bench.queue_mut().read_backlog().unwrap().storage.damage, []);
    assert_eq!(bench.run(AcknowledgeDamage), []);
    assert_eq!(kept_files(bench.dir.path()).len(), 2, "acknowledging deletes nothing");
}

#[test]
fn a_power_cut_between_the_two_renames_is_recovered() {
    let sound = make_sound_file(true);
    let mut bytes = sound.bytes.clone();
    bytes[..4096].fill(0);
    // Both names, and a complete or partial new file.
    let dir = directory_with(&bytes, false);
    let aside = dir.path().join("queue.redb.damaged-20261122T204116Z");
    fs::hard_link(dir.path().join("queue.redb"), &aside).unwrap();
    fs::write(dir.path().join("queue.redb.new"), vec![7; 5000]).unwrap();
    let (mut queue, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses.lost, []);
    assert_eq!(queue.read_backlog().unwrap().storage.damage[0].kept_as, aside.to_str().unwrap());
    assert_eq!(kept_files(dir.path()), std::slice::from_ref(&aside), "the damaged file is not kept twice");
    assert_eq!(fs::metadata(&aside).unwrap().nlink(), 1);
    drop(queue);
    // Without hard links, the new file may still have its first name.
    fs::rename(dir.path().join("queue.redb"), dir.path().join("queue.redb.new")).unwrap();
    let (_, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses.lost, []);
}

#[test]
fn errors_that_are_not_damage_cause_no_salvage() {
    let quiet = || Arc::new(|_| ());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue.redb");
    fs::create_dir(&path).unwrap();
    let refused = Queue::open(dir.path(), KeySpace::default(), quiet()).err().unwrap();
    assert!(!refused.is_damage(), "{refused}");
    assert!(path.is_dir() && kept_files(dir.path()).is_empty());
    // No new file can be created: nothing is changed.
    let dir = directory_with(b"no store", false);
    fs::create_dir(dir.path().join("queue.redb.new")).unwrap();
    let refused = Queue::open(dir.path(), KeySpace::default(), quiet()).err().unwrap();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
    assert_eq!(fs::read(dir.path().join("queue.redb")).unwrap(), b"no store");
    assert!(kept_files(dir.path()).is_empty());
}

#[test]
fn tables_that_end_the_process_are_not_read_again_and_again() {
    let sound = make_sound_file(true);
    let mut bytes = sound.bytes.clone();
    bytes[..32].fill(0);
    let dir = directory_with(&bytes, false);
    fs::write(dir.path().join("queue.redb.suspect"), b"2").unwrap();
    let (_, losses) = open_and_compare(&sound, dir.path());
    assert_eq!(losses.lost, [], "the raw bytes contain all of them");
    assert!(losses.unquarantined > 0, "and do not tell which were quarantined");
}

#[test]
fn salvage_by_hand_lists_records_by_arrival_and_leaves_the_file_unchanged() {
    let sound = make_sound_file(true);
    let mut bytes = sound.bytes.clone();
    bytes[..32].fill(0);
    let dir = directory_with(&bytes, false);
    let path = dir.path().join("queue.redb");
    let salvage = Salvage::read_file(&path, dir.path()).unwrap();
    let records: Vec<NewRecord> = salvage.list_records().unwrap().map(Result::unwrap).collect();
    let of = |record: &NewRecord| (record.id, record.key.clone(), record.priority, record.payload.clone());
    // The ids of the bench count up in order of arrival.
    assert!(records.iter().map(of).eq(sound.unsettled().map(of)));
    assert_eq!((salvage.salvaged, salvage.lost), (records.len() as u64, 0));
    drop(salvage);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    assert!(Salvage::read_file(&dir.path().join("none"), dir.path()).is_err());
}
