//! Reads the tables of a damaged file with redb, against its checksums: most of such a file is intact, and every
//! payload has its own checksum.
//!
//! redb sees the file through a read-only backend, with a header that requires no repair and selects one of the two
//! commits in the file. A read may fail or panic. It loses only the entries that it was to find, and the tables are
//! opened again.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use redb::{
    BackendError, ConcurrencyMode, Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    StorageBackend, TableDefinition, Value,
};

use super::raw_file::RawFile;
use crate::protocol::receipt::Receipt;
use crate::store::error::StoreError;
use crate::store::panic_guard::catch_panics;
use crate::store::schema::{
    CHUNKS, MANIFEST, META, PAYLOAD, QUARANTINE, RECEIPTS, RecordHeader, SERVER_RECEIPTS,
};
use crate::store::server_receipts::read_receipt;

/// The header of redb's file format 3 and its two commit slots.
const HEADER_BYTES: usize = 320;
const SLOT_OFFSETS: [usize; 2] = [64, 192];
const TRANSACTION_ID_OFFSET: usize = 104;
/// Magic number, flags, page size, pages of a region's header, pages of a region, full regions, pages of the last
/// region. Replaces the original, which may be damaged. Readers do not use the last two.
const HEADER_START: [u8; 32] =
    *b"redb\x1a\x0a\xa9\x0d\x0a\0\0\0\0\x10\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\x01\0\0\0";
const FLAGS_OFFSET: usize = 9;
/// Selects the first or second commit slot. All other flags require a repair or concern writing.
const PRIMARY_SLOT_FLAG: u8 = 1;

/// Pages that one step may read: a damaged tree may contain a cycle.
const READS_PER_STEP: u32 = 100;
/// A reference to a larger page is damaged.
const READ_BYTES_MAX: usize = 64 << 20;
/// Failed reads before reading the tables ends, plus some for every page of the file. Skipping one gap takes up to 256,
/// and there may be any number of gaps. The raw search finds what the tables do not give.
const FAILURES_MAX: u64 = 1000;
const FAILURES_MAX_PER_PAGE: u64 = 16;
const PAGE_BYTES: u64 = 4096;
/// A page that is too large costs as much time as one failed read per this many bytes.
const BYTES_PER_FAILURE: u64 = 64 << 10;
/// Format of redb's branch pages: type, and the sizes of header, checksums and references.
const BRANCH_PAGE_TYPE: u8 = 2;
const BRANCH_HEADER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 16;
const REFERENCE_BYTES: usize = 8;
/// The upper five bits of a reference's last byte are the binary logarithm of the page's size in pages.
const PAGE_ORDER_SHIFT: u32 = 3;
/// Number of tables in [`OpenedTables`] that every store has.
const TABLE_COUNT: usize = 6;

/// The file as redb sees it.
struct DamagedFileBackend {
    raw: Arc<RawFile>,
    header: [u8; HEADER_BYTES],
    reads: Arc<AtomicU32>,
    failures_left: Arc<AtomicU64>,
}

impl fmt::Debug for DamagedFileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a damaged file")
    }
}

impl StorageBackend for DamagedFileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.raw.byte_length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let left = self.reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if out.len() > READ_BYTES_MAX {
            // redb has allocated and zeroed the page before this call.
            spend_failures(&self.failures_left, out.len() as u64 / BYTES_PER_FAILURE);
        }
        if left.is_err() || out.len() > READ_BYTES_MAX || offset >= self.raw.byte_length() {
            return Err(io::Error::other("a damaged reference"));
        }
        self.raw.read_or_zero(offset, out);
        shrink_references(out, self.raw.byte_length());
        if let Ok(from @ 0..HEADER_BYTES) = usize::try_from(offset) {
            for (byte, shown) in out.iter_mut().zip(self.header.iter().skip(from)) {
                *byte = *shown;
            }
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    // The concurrent mode has the fewest requirements on the file, but needs locks. None are taken, because no other
    // process uses the damaged file.
    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

fn spend_failures(failures_left: &AtomicU64, failures: u64) {
    failures_left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(failures)))
        .ok();
}

/// Changes references to pages that are larger than the file, or than any real page, to the ordinary size. redb
/// allocates a page of up to 4 GiB before it checks whether it exists.
pub(super) fn shrink_references(page: &mut [u8], file_length: u64) {
    let [BRANCH_PAGE_TYPE, _, low, high, ..] = *page else { return };
    let children = usize::from(u16::from_le_bytes([low, high])) + 1;
    let from = BRANCH_HEADER_BYTES + children * CHECKSUM_BYTES;
    let Some(references) = page.get_mut(from..from + children * REFERENCE_BYTES) else { return };
    for reference in references.chunks_exact_mut(REFERENCE_BYTES) {
        if let Some(last) = reference.last_mut()
            && PAGE_BYTES << (*last >> PAGE_ORDER_SHIFT) > file_length.min(READ_BYTES_MAX as u64)
        {
            *last &= (1 << PAGE_ORDER_SHIFT) - 1;
        }
    }
}

/// The tables that could be opened.
#[derive(Default)]
pub(super) struct OpenedTables {
    pub(super) payload: Option<ReadOnlyTable<u64, &'static [u8]>>,
    pub(super) chunks: Option<ReadOnlyTable<(u64, u32), &'static [u8]>>,
    pub(super) manifest: Option<ReadOnlyTable<u128, &'static [u8]>>,
    pub(super) quarantine: Option<ReadOnlyTable<u64, u128>>,
    pub(super) receipts: Option<ReadOnlyTable<u64, (u128, u64)>>,
    pub(super) meta: Option<ReadOnlyTable<&'static str, &'static [u8]>>,
    /// Stores of earlier versions do not have it, so that it does not count.
    server_receipts: Option<ReadOnlyTable<u64, &'static [u8]>>,
}

impl OpenedTables {
    fn opened_count(&self) -> usize {
        let keyed = [self.payload.is_some(), self.manifest.is_some(), self.meta.is_some()];
        let others = [self.chunks.is_some(), self.quarantine.is_some(), self.receipts.is_some()];
        keyed.into_iter().chain(others).filter(|opened| *opened).count()
    }
}

pub(super) struct DamagedTables {
    raw: Arc<RawFile>,
    header: [u8; HEADER_BYTES],
    pub(super) reads: Arc<AtomicU32>,
    pub(super) parts: OpenedTables,
    failures_left: Arc<AtomicU64>,
    /// Whether both commit slots are intact, and the tables are all of those of the later commit.
    pub(super) is_latest: bool,
}

impl DamagedTables {
    pub(super) fn open_best_commit(raw: &Arc<RawFile>) -> Self {
        let mut header = [0; HEADER_BYTES];
        raw.read_or_zero(0, &mut header);
        for (byte, head) in header.iter_mut().zip(HEADER_START) {
            *byte = head;
        }
        let id = |slot: usize| {
            let id = header.get(slot + TRANSACTION_ID_OFFSET..).and_then(<[u8]>::first_chunk::<8>);
            id.map_or(0, |id| u64::from_le_bytes(*id))
        };
        let [first, second] = SLOT_OFFSETS.map(id);
        let failures_left = FAILURES_MAX + raw.byte_length() / PAGE_BYTES * FAILURES_MAX_PER_PAGE;
        let latest_first = if second > first { [PRIMARY_SLOT_FLAG, 0] } else { [0, PRIMARY_SLOT_FLAG] };
        let mut tried = latest_first.map(|slot| {
            header[FLAGS_OFFSET] = slot;
            let reads = Arc::new(AtomicU32::new(READS_PER_STEP));
            let (raw, parts, failures_left) =
                (Arc::clone(raw), OpenedTables::default(), Arc::new(AtomicU64::new(failures_left)));
            let mut source = Self { raw, header, reads, parts, failures_left, is_latest: false };
            let opened = source.reopen_tables();
            (source, opened)
        });
        let slots_are_whole = tried.iter().all(|(_, opened)| *opened);
        let [is_latest, previous] = &mut tried;
        is_latest.0.is_latest = slots_are_whole && is_latest.0.parts.opened_count() == TABLE_COUNT;
        let use_previous = previous.0.parts.opened_count() > is_latest.0.parts.opened_count();
        let [is_latest, previous] = tried;
        if use_previous { previous.0 } else { is_latest.0 }
    }

    /// False if the commit slot is damaged or too many reads failed: then there are no tables from now on.
    pub(super) fn reopen_tables(&mut self) -> bool {
        self.reads.store(READS_PER_STEP, Ordering::Relaxed);
        let (raw, header, reads) = (Arc::clone(&self.raw), self.header, Arc::clone(&self.reads));
        let old = std::mem::take(&mut self.parts);
        let is_given_up = self.failures_left.load(Ordering::Relaxed) == 0;
        let failures_left = Arc::clone(&self.failures_left);
        let opened = catch_panics(move || -> Option<ReadTransaction> {
            drop(old);
            if is_given_up {
                return None;
            }
            let mut builder = Database::builder();
            builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
            // Without a cache, every read is counted.
            builder.set_cache_size(0);
            let database = builder
                .open_read_only_with_backend(DamagedFileBackend { raw, header, reads, failures_left })
                .ok()?;
            database.begin_read().ok()
        });
        spend_failures(&self.failures_left, 1);
        let Ok(Some(transaction)) = opened else { return false };
        self.parts = OpenedTables {
            payload: self.open_table(&transaction, PAYLOAD),
            chunks: self.open_table(&transaction, CHUNKS),
            manifest: self.open_table(&transaction, MANIFEST),
            quarantine: self.open_table(&transaction, QUARANTINE),
            receipts: self.open_table(&transaction, RECEIPTS),
            meta: self.open_table(&transaction, META),
            server_receipts: self.open_table(&transaction, SERVER_RECEIPTS),
        };
        true
    }

    fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        transaction: &ReadTransaction,
        definition: TableDefinition<'_, K, V>,
    ) -> Option<ReadOnlyTable<K, V>> {
        self.reads.store(READS_PER_STEP, Ordering::Relaxed);
        catch_panics(|| transaction.open_table(definition).ok()).ok().flatten()
    }

    /// Reads from the tables. `entries` is how many entries it may read, approximately.
    pub(super) fn with_tables<T>(
        &mut self,
        entries: usize,
        read: impl FnOnce(&OpenedTables) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, ()> {
        let parts = &self.parts;
        let result = guard_read(&self.reads, entries, || read(parts));
        if result.is_err() {
            self.reopen_tables();
        }
        result
    }
}

impl DamagedTables {
    /// Whether the server has confirmed this record, or it was discarded.
    pub(super) fn has_receipt(&mut self, header: &RecordHeader) -> bool {
        self.receipt_at(header.position).is_some_and(|(id, _)| id == header.id)
    }

    /// Id and settlement time of the receipt at this position.
    pub(super) fn receipt_at(&mut self, position: u64) -> Option<(u128, u64)> {
        let receipt = self.with_tables(1, |parts| match &parts.receipts {
            Some(table) => Ok(table.get(position)?.map(|receipt| receipt.value())),
            None => Ok(None),
        });
        receipt.ok().flatten()
    }

    /// What the server said that the record at this position became, if that can be read.
    pub(super) fn server_receipt_at(&mut self, position: u64) -> Option<Receipt> {
        let receipt = self.with_tables(1, |parts| match &parts.server_receipts {
            Some(table) => read_receipt(table, position),
            None => Ok(None),
        });
        receipt.ok().flatten()
    }
}

/// Catches failures and panics of one read, which loses only what it was to find.
pub(super) fn guard_read<T>(
    reads: &AtomicU32,
    entries: usize,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, ()> {
    let reads_left =
        u32::try_from(entries).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(READS_PER_STEP);
    reads.store(reads_left, Ordering::Relaxed);
    match catch_panics(read) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_files_start_with_the_expected_header() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        Database::create(&path).unwrap().close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[FLAGS_OFFSET] = 0;
        assert_eq!(bytes[..24], HEADER_START[..24]);
        let id =
            |slot: usize| u64::from_le_bytes(bytes[slot + TRANSACTION_ID_OFFSET..][..8].try_into().unwrap());
        assert_ne!(id(SLOT_OFFSETS[0]), id(SLOT_OFFSETS[1]));
        assert!(SLOT_OFFSETS.into_iter().all(|slot| id(slot) < 10), "{}", id(SLOT_OFFSETS[0]));
    }
}
