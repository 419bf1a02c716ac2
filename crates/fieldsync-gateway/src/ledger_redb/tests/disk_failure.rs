//! A disk that fails, and works again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use redb::StorageBackend;

use super::*;

const WAIT_MAX: Duration = Duration::from_mins(1);

/// A disk with one file. While it is full, nothing is written.
#[derive(Clone, Debug, Default)]
struct Disk {
    is_full: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: File,
}

impl Disk {
    fn open(&self, path: &Path) -> Result<Database, redb::Error> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let file = File::options().read(true).write(true).open(path)?;
        Ok(database_builder().create_with_backend(DiskFile { disk: self.clone(), file })?)
    }

    fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn count_opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn check_room(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.check_room()?;
        self.file.write_all_at(data, offset)
    }
}

fn open_on(disk: &Disk, path: &Path) -> RedbLedger {
    RedbLedger::open(path, false).unwrap().close().unwrap();
    let (database, reopened) = (disk.open(path).unwrap(), (disk.clone(), path.to_path_buf()));
    let reopen = Box::new(move || reopened.0.open(&reopened.1));
    RedbLedger::on_database(database, path.into(), false, reopen).unwrap()
}

/// Waits until the condition holds, which is asked again and again.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "no actor runs in this test, and a disk tells nobody that it has room"
)]
fn wait_until(condition: impl Fn() -> bool) {
    let clock = Clock::start();
    while !condition() {
        assert!(clock.now() < WAIT_MAX, "it takes too long");
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_unreachable<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Unreachable(_)))
}

#[test]
fn a_ledger_whose_disk_was_full_is_unhealthy_until_there_is_room_and_then_works_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let disk = Disk::default();
    let ledger = open_on(&disk, &path);
    let [before, during] = [batch(RecordId::new(), "{}"), batch(RecordId::new(), "{}")];
    assert!(matches!(ledger.settle_batch(&before, 1).unwrap(), BatchSettlement::New(_)));

    disk.set_full(true);
    thread::scope(|scope| {
        let writers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ledger.settle_batch(&batch(RecordId::new(), "{}"), 2))).collect();
        assert!(writers.into_iter().all(|writer| is_unreachable(&writer.join().unwrap())));
    });
    // It is tried again and again, and fails for as long as the disk is full.
    wait_until(|| {
        assert!(is_unreachable(&ledger.check_health()));
        assert!(is_unreachable(&ledger.settle_batch(&during, 2)));
        assert!(is_unreachable(&ledger.stored_response(before.device, before.id)));
        disk.count_opened() >= 3
    });

    disk.set_full(false);
    wait_until(|| ledger.check_health().is_ok());
    assert!(matches!(ledger.settle_batch(&before, 3).unwrap(), BatchSettlement::Replayed(_)));
    ledger.settle_batch(&during, 3).unwrap();
    ledger.close().unwrap();
    assert!(matches!(ledger.check_health(), Err(LedgerError::Closed)));

    let ledger = RedbLedger::open(&path, false).unwrap();
    for batch in [&before, &during] {
        assert!(ledger.stored_response(batch.device, batch.id).unwrap().is_some());
    }
}

#[test]
fn a_ledger_that_ends_on_a_full_disk_keeps_what_it_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.redb");
    let disk = Disk::default();
    let ledger = open_on(&disk, &path);
    let confirmed = batch(RecordId::new(), "{}");
    ledger.settle_batch(&confirmed, 1).unwrap();
    disk.set_full(true);
    assert!(is_unreachable(&ledger.settle_batch(&batch(RecordId::new(), "{}"), 2)));
    ledger.close().unwrap();
    let ledger = RedbLedger::open(&path, false).unwrap();
    assert!(ledger.stored_response(confirmed.device, confirmed.id).unwrap().is_some());
}
