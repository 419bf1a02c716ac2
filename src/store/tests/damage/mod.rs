//! Damaged files: what can be read is kept in the right state, and so is the file.

mod files;
mod flips;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::audit::audit;
use super::support::{HOUR_MS, QueueBench, discard, open_queue_in, receipt, record, test_error, view_queue};
use crate::clock::Now;
use crate::model::{BatchPhase, DeviceId, LastError, NewRecord, RecordId, RecordState};
use crate::policy::scheduler::{Disposition, Outcome};
use crate::store::{Queue, Review, ReviewSelection, SaveNote};

const RECORDS: u128 = 300;
/// Larger than a page: with chunks.
const LARGE: [u128; 3] = [150, 151, 299];
const NOW: Now = Now { steady: HOUR_MS, wall: HOUR_MS };

/// A store with records in every state, closed.
struct SoundFile {
    bytes: Vec<u8>,
    device: DeviceId,
    records: BTreeMap<RecordId, (NewRecord, RecordState, u32)>,
}

fn large(number: u128) -> NewRecord {
    let text: String =
        (0..3000 * (number % 10 + 2)).map(|n| char::from(b'a' + u8::try_from(n * n % 23).unwrap())).collect();
    NewRecord {
        payload: format!("{{\"n\":{number},\"text\":\"{text}\"}}").into(),
        ..record(number, Some("large"))
    }
}

/// Closed cleanly if `closed`, otherwise left by a crash.
fn make_sound_file(closed: bool) -> SoundFile {
    let mut bench = QueueBench::new();
    bench.limits.max_record_bytes = 1 << 20;
    bench.limits.max_bytes = 1 << 30;
    let key = |number| (number % 7 == 0).then(|| format!("key {}", number % 5));
    let records: Vec<NewRecord> = (1..=RECORDS)
        .map(|number| match number {
            number if LARGE.contains(&number) => large(number),
            number => {
                let priority = if number % 11 == 0 { 7 } else { 5 };
                let payload = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(200));
                NewRecord { priority, payload: payload.into(), ..record(number, key(number).as_deref()) }
            }
        })
        .collect();
    for some in records.chunks(25) {
        bench.append(some.to_vec());
    }
    for (many, outcome) in [
        (20, Outcome::Synced(None)),
        (20, Outcome::Synced(receipt(400))),
        (10, Outcome::Quarantine(LastError { field: Some("/day".into()), ..test_error("no such day") })),
        (10, Outcome::Retry(test_error("504"))),
        (3, Outcome::Synced(None)),
    ] {
        let batch = bench.claim(many).unwrap();
        bench.close_batch(batch.open.id, outcome);
    }
    let quarantined = records.iter().map(|record| record.id);
    let quarantined =
        quarantined.filter(|id| bench.find_entry(*id).unwrap().state == RecordState::Quarantined);
    let selected = ReviewSelection::These(quarantined.take(3).collect());
    bench.run(Review { selected, action: discard(), submitter: None });
    bench.run(SaveNote { name: "note", note: b"of another component".to_vec() });
    bench.claim(5).unwrap();
    let kept = bench.claim(4).unwrap().open.id;
    bench.settle(
        kept,
        Disposition::Keep { phase: BatchPhase::Waiting, lone_failures: 0, error: Some(test_error("504")) },
    );
    bench.reopen_queue();
    audit(bench.queue_mut());
    let states = records.into_iter().map(|record| {
        let entry = bench.find_entry(record.id).unwrap();
        (record.id, (record, entry.state, entry.attempts))
    });
    let records = states.collect();
    let device = bench.queue().device_id();
    if !closed {
        // The commit that falling back to the previous one loses.
        bench.run(SaveNote { name: "last", note: Vec::new() });
        bench.crash_process();
        let bytes = fs::read(bench.dir.path().join("queue.redb")).unwrap();
        return SoundFile { bytes, device, records };
    }
    let dir = bench.close_all();
    SoundFile { bytes: fs::read(dir.path().join("queue.redb")).unwrap(), device, records }
}

impl SoundFile {
    /// Records whose payloads are in it.
    fn unsettled(&self) -> impl Iterator<Item = &NewRecord> {
        let is_settled = |state| matches!(state, RecordState::Synced | RecordState::Discarded);
        self.records.values().filter(move |(_, state, _)| !is_settled(*state)).map(|(record, ..)| record)
    }
}

/// A directory with this file in it.
fn directory_with(bytes: &[u8], suspect: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("queue.redb"), bytes).unwrap();
    if suspect {
        fs::write(dir.path().join("queue.redb.suspect"), []).unwrap();
    }
    dir
}

fn kept_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().contains("queue.redb.damaged-")).collect();
    kept.sort();
    kept
}

fn find_all(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    bytes.windows(text.len()).enumerate().filter(|(_, some)| *some == text).map(|(at, _)| at).collect()
}

/// What happened to the records of a sound store.
#[derive(Debug, Default, PartialEq)]
struct SalvageLosses {
    /// Unsettled before, and gone.
    lost: Vec<RecordId>,
    /// Synced or discarded before, and unknown now.
    forgotten: usize,
    /// Synced before, and to be sent again.
    duplicated: usize,
    /// Discarded before, and to be sent again.
    revived: usize,
    /// Quarantined before, and to be sent again.
    unquarantined: usize,
}

/// Opens the store and compares it with the sound one.
fn open_and_compare(sound: &SoundFile, dir: &Path) -> (Queue, SalvageLosses) {
    let mut queue = open_queue_in(dir);
    audit(&mut queue);
    let salvaged = !queue.read_backlog().unwrap().storage.damage.is_empty();
    let mut losses = SalvageLosses::default();
    for (id, (record, was, attempts)) in &sound.records {
        let Some(entry) = view_queue(&queue, NOW, |view| view.find_entry(*id)) else {
            match was {
                RecordState::Synced | RecordState::Discarded => losses.forgotten += 1,
                _ => losses.lost.push(*id),
            }
            continue;
        };
        assert_eq!(
            (&entry.record_type, &entry.key, entry.priority),
            (&record.record_type, &record.key, record.priority)
        );
        match (was, entry.state) {
            (RecordState::Synced, RecordState::Synced) => continue,
            (RecordState::Discarded, RecordState::Discarded) => {
                assert!(entry.discarded_by.is_some());
                continue;
            }
            (RecordState::Synced, _) => losses.duplicated += 1,
            (RecordState::Discarded, RecordState::Pending | RecordState::Quarantined) => losses.revived += 1,
            (RecordState::Quarantined, RecordState::Quarantined) => assert!(entry.last_error.is_some()),
            (RecordState::Quarantined, RecordState::Pending) => losses.unquarantined += 1,
            (was, is) if salvaged => assert_eq!(is, RecordState::Pending, "was {was:?}"),
            (was, is) => assert_eq!(is, *was),
        }
        assert!(entry.attempts <= *attempts);
        let (payload, _) = view_queue(&queue, NOW, |view| view.read_payload(*id)).unwrap();
        assert_eq!(payload, record.payload);
    }
    (queue, losses)
}
