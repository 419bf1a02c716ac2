//! A simulated year of a busy device: memory, notes and the file of the store stay small.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::store::{Append, Group, KeySpace, Op, Queue, QueueLimits, StoreError, Transaction, WaitingNotes};

/// What telemetry may take, in memory, on disk, and by which the file of the store may grow.
const BYTES_MAX: usize = 1 << 20;
const DAYS: u64 = 365;
const BATCHES_PER_HOUR: u64 = 4;
/// A save every so many hours.
const HOURS_PER_SAVE: u64 = 6;

/// A day of many types, sizes, numbers in flight and failures, different each day.
fn simulate_hour(measurements: &mut Measurements, rng: &mut fastrand::Rng, hour_start: u64) {
    for n in 0..BATCHES_PER_HOUR {
        let at = hour_start + n * (HOUR_MS / BATCHES_PER_HOUR);
        // Twenty types: more than have an entry of their own.
        let counts: Vec<u64> = (0..20).map(|_| if rng.u8(..) < 100 { rng.u64(0..20) } else { 0 }).collect();
        let records: u64 = counts.iter().sum();
        let duration_ms = 50 + records * rng.u64(3..300);
        let outcomes = [
            BatchOutcome::Timeout,
            BatchOutcome::ServerError,
            BatchOutcome::ConnectionLost,
            BatchOutcome::Throttled,
            BatchOutcome::Unreachable,
            BatchOutcome::TooLarge,
        ];
        let outcome =
            if rng.u8(..) < 50 { outcomes[rng.usize(..outcomes.len())] } else { BatchOutcome::Answered };
        let network = Network {
            interface: Some([InterfaceKind::Wifi, InterfaceKind::Cellular][rng.usize(..2)]),
            signal_dbm: Some(-40 - rng.i16(0..60)),
            round_trip: Some(Duration::from_micros(rng.u64(500..900_000))),
            ..wifi()
        };
        let report = BatchReport {
            in_flight: rng.usize(1..12),
            ..batch_at(at, usize::try_from(records).unwrap(), outcome, duration_ms)
        };
        measurements.batch_ended(&report, &counts_of(&counts), &network, rng.usize(..24));
    }
}

#[test]
fn after_a_year_the_notes_take_less_than_a_mebibyte() {
    let (mut measurements, mut disk) = (Measurements::default(), BTreeMap::new());
    let (mut rng, mut saves, mut written) = (fastrand::Rng::with_seed(7), 0, 0);
    for hour in 0..DAYS * 24 {
        simulate_hour(&mut measurements, &mut rng, NOON + hour * HOUR_MS);
        if hour % HOURS_PER_SAVE == 0 {
            written += save(&mut measurements, &mut disk);
            saves += 1;
        }
    }
    let bytes: usize = disk.iter().map(|(name, note)| name.len() + note.len()).sum();
    println!("{bytes} bytes in {} notes, {} bytes in each save", disk.len(), written / saves);
    assert!(bytes < BYTES_MAX * 3 / 4, "{bytes} bytes in {} notes", disk.len());
    assert!(written / saves < 20_000, "{} bytes in each save", written / saves);
    // The open day is decoded; everything else is in memory as it is on disk.
    let open = serde_json::to_vec(&measurements.days.open_note().unwrap()).unwrap().len();
    println!("{open} bytes of today as text");
    assert!(bytes + 2 * open < BYTES_MAX, "{bytes} bytes, and {open} for today");
    let days = disk.keys().filter(|name| name.contains("/day/")).count();
    assert!((89..=90).contains(&days), "{days} days");
    assert!(disk.keys().filter(|name| name.contains("/hours/")).count() <= 9);
}

/// Appends a record, and takes the notes along.
struct GroupWithNotes {
    append: Append,
    notes: WaitingNotes,
}

impl Group for GroupWithNotes {
    fn apply(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        drop(self.append.apply(transaction)?);
        self.notes.join_transaction(transaction)?;
        Ok(true)
    }

    fn added_bytes(&self) -> u64 {
        self.append.added_bytes()
    }
}

#[test]
fn after_a_year_the_file_has_grown_by_less_than_a_mebibyte() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(dir.path(), KeySpace::default(), Arc::new(|_| ())).unwrap();
    let file_bytes = || {
        let files =
            std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        usize::try_from(files.sum::<u64>()).unwrap()
    };
    let limits = QueueLimits::from(&crate::config::Config::default());
    let commit = |queue: &mut Queue, notes: WaitingNotes| {
        let now = crate::clock::SteadyClock::continue_from(0).now();
        let append = Append::new(Vec::new(), 0);
        assert!(queue.commit(limits, now, &mut GroupWithNotes { append, notes }).unwrap());
    };
    commit(&mut queue, WaitingNotes::default());
    let before = file_bytes();
    let mut measurements = Measurements::default();
    let mut rng = fastrand::Rng::with_seed(9);
    for day in 0..DAYS {
        // Four saves a day, with a commit each that happens anyway.
        for hour in [0, 6, 12, 18] {
            simulate_hour(&mut measurements, &mut rng, NOON + day * DAY_MS + hour * HOUR_MS);
            let mut notes = WaitingNotes::default();
            measurements.unsaved_notes().into_iter().for_each(|change| notes.add_change(change));
            measurements.mark_saved();
            commit(&mut queue, notes);
        }
    }
    let grown = file_bytes().saturating_sub(before);
    println!("the file has grown by {grown} bytes");
    assert!(grown < BYTES_MAX, "{grown} bytes");
    let notes = queue.read_notes(super::super::NOTES_PREFIX).unwrap();
    assert!((95..=100).contains(&notes.len()), "{} notes", notes.len());
    let back = Measurements::restore(notes);
    let (now, window) = (NOON + DAYS * DAY_MS, Duration::from_hours(24 * 60));
    let (back, kept) = (back.report(now, window), measurements.report(now, window));
    assert!(back == kept);
}
