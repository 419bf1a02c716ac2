//! The embedded ledger: one redb file, for one gateway.
//!
//! A file that stands under the ledger's name is whole: it is made under another name, and
//! renamed once it is on disk. Its lock keeps a second process out.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition,
    TableError, WriteTransaction,
};
use uuid::Uuid;

use super::ledger::{
    Application, CheckedBatch, CheckedRecord, Digest, INVALID_DATA, KeptAnswer, KnownRecord, Ledger,
    LedgerError, OpenError, PageLimit, Settled, Turn,
};
use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::wire::{BatchAnswer, RecordResult, RecordStatus};

/// The engine's own default of 1 GiB is for servers that do nothing else.
const CACHE_BYTES: usize = 8 << 20;
/// The layout of the tables below.
const SCHEMA: u64 = 1;
const SCHEMA_KEY: &str = "schema";
/// The last application that was handed on; not there before the first.
const FORWARDED_KEY: &str = "forwarded";
const NEW_FILE_PREFIX: &str = ".fieldsync-ledger-";

/// What the file says of itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Record id → digest: the index that makes an application happen once.
const RECORDS: TableDefinition<'_, u128, &Digest> = TableDefinition::new("records");
/// Record id → the device that it was applied for. Not there for what older gateways applied.
const RECORD_DEVICES: TableDefinition<'_, u128, u128> = TableDefinition::new("record_devices");
/// Order of application → record, device, batch, type, key, when, payload. Append-only, and written
/// without a look at the index, so that a failure of the index would show here.
const APPLIED: TableDefinition<'_, u64, AppliedRow<'_>> = TableDefinition::new("applied");
/// Device and batch → fingerprint, when it was answered, the answer.
const BATCHES: TableDefinition<'_, (u128, u128), BatchRow<'_>> = TableDefinition::new("batches");
/// When it was answered, device and batch: the order in which answers are forgotten.
const ANSWERED: TableDefinition<'_, (u64, u128, u128), ()> = TableDefinition::new("answered");

type AppliedRow<'a> = (u128, u128, u128, &'a str, Option<&'a str>, u64, &'a str);
type BatchRow<'a> = (&'a Digest, u64, &'a str);

/// The ledger in a file.
pub(crate) struct RedbLedger {
    /// None once it is closed.
    database: RwLock<Option<Database>>,
}

impl RedbLedger {
    /// Opens the ledger, and makes it when there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let file_error = |source| OpenError::File { path: path.into(), source };
        if !path.try_exists().map_err(file_error)? {
            make(path)?;
        }
        let database = builder().open(path).map_err(|error| open_error(path, error))?;
        check_schema(path, &database)?;
        Ok(Self { database: RwLock::new(Some(database)) })
    }

    fn with<T>(&self, operation: impl FnOnce(&Database) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        operation(database.as_ref().ok_or(LedgerError::Closed)?)
    }
}

impl Ledger for RedbLedger {
    fn writers(&self) -> usize {
        1
    }

    fn is_shared(&self) -> bool {
        false
    }

    // The file belongs to this process: whatever is at work is at work here.

    fn claim(&self, _: DeviceId, _: BatchId) -> Result<bool, LedgerError> {
        Ok(true)
    }

    fn release(&self, _: DeviceId, _: BatchId) -> Result<bool, LedgerError> {
        Ok(true)
    }

    fn is_claimed(&self, _: DeviceId, _: BatchId) -> Result<bool, LedgerError> {
        Ok(false)
    }

    fn answer(&self, device: DeviceId, batch: BatchId) -> Result<Option<KeptAnswer>, LedgerError> {
        self.with(|database| {
            let batches = database.begin_read()?.open_table(BATCHES)?;
            kept_answer(&batches, batch_key(device, batch))
        })
    }

    fn settle(&self, batch: &CheckedBatch, now: u64) -> Result<Settled, LedgerError> {
        self.with(|database| {
            let transaction = begin_write(database)?;
            let settled = settle_in(&transaction, batch, now)?;
            match settled {
                Settled::Fresh(_) => transaction.commit()?,
                Settled::Replayed(_) | Settled::Reused => transaction.abort()?,
            }
            Ok(settled)
        })
    }

    fn prune(&self, before: u64, most: usize) -> Result<usize, LedgerError> {
        self.with(|database| {
            let transaction = begin_write(database)?;
            let mut pruned = 0;
            {
                let mut answered = transaction.open_table(ANSWERED)?;
                let mut batches = transaction.open_table(BATCHES)?;
                while pruned < most {
                    let oldest = answered.first()?.map(|(key, _)| key.value());
                    let Some(key) = oldest.filter(|(at, ..)| *at < before) else {
                        break;
                    };
                    answered.remove(key)?;
                    batches.remove((key.1, key.2))?;
                    pruned += 1;
                }
            }
            if pruned == 0 {
                transaction.abort()?;
            } else {
                transaction.commit()?;
            }
            Ok(pruned)
        })
    }

    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<Application>, LedgerError> {
        self.with(|database| {
            let applied = database.begin_read()?.open_table(APPLIED)?;
            page_after(&applied, seq, limit)
        })
    }

    fn to_forward(&self, limit: PageLimit) -> Result<Turn, LedgerError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let meta = transaction.open_table(META)?;
            let forwarded = meta.get(FORWARDED_KEY)?.map_or(0, |seq| seq.value());
            let applied = transaction.open_table(APPLIED)?;
            let head = applied.last()?.map_or(0, |(seq, _)| seq.value());
            let page = page_after(&applied, forwarded, limit)?;
            Ok(Turn::Ours { page, waiting: head.saturating_sub(forwarded) })
        })
    }

    fn forwarded(&self, seq: u64) -> Result<(), LedgerError> {
        self.with(|database| {
            let transaction = begin_write(database)?;
            transaction.open_table(META)?.insert(FORWARDED_KEY, seq)?;
            Ok(transaction.commit()?)
        })
    }

    fn yield_forwarding(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    fn probe(&self) -> Result<(), LedgerError> {
        self.with(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            meta.get(SCHEMA_KEY)?;
            Ok(())
        })
    }

    fn close(&self) -> Result<(), LedgerError> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        match database {
            Some(database) => Ok(database.close()?),
            None => Ok(()),
        }
    }
}

fn settle_in(transaction: &WriteTransaction, batch: &CheckedBatch, now: u64) -> Result<Settled, LedgerError> {
    let key = batch_key(batch.device, batch.id);
    let mut batches = transaction.open_table(BATCHES)?;
    if let Some(kept) = kept_answer(&batches, key)? {
        return Ok(kept.for_fingerprint(&batch.fingerprint));
    }
    let mut known =
        Known { records: transaction.open_table(RECORDS)?, devices: transaction.open_table(RECORD_DEVICES)? };
    let mut applied = transaction.open_table(APPLIED)?;
    let mut seq = applied.last()?.map_or(0, |(seq, _)| seq.value());
    let mut results = Vec::with_capacity(batch.records.len());
    for record in &batch.records {
        let result = known.judge(record, batch.device)?;
        if result.status == RecordStatus::Applied {
            seq += 1;
            let row = (
                record.id.0.as_u128(),
                batch.device.0.as_u128(),
                batch.id.0.as_u128(),
                record.record_type.as_str(),
                record.key.as_deref(),
                now,
                record.payload.get(),
            );
            applied.insert(seq, row)?;
        }
        results.push(result);
    }
    let answer = BatchAnswer { batch_id: batch.id, replayed: false, results };
    let text = serde_json::to_string(&answer)?;
    batches.insert(key, (&batch.fingerprint, now, text.as_str()))?;
    transaction.open_table(ANSWERED)?.insert((now, key.0, key.1), ())?;
    Ok(Settled::Fresh(answer))
}

/// The records that were applied.
struct Known<'t> {
    records: Table<'t, u128, &'static Digest>,
    devices: Table<'t, u128, u128>,
}

impl Known<'_> {
    /// Decides about a record; the one that is to be applied is known from here on.
    fn judge(&mut self, record: &CheckedRecord, device: DeviceId) -> Result<RecordResult, LedgerError> {
        if let Some(fault) = record.fault {
            return Ok(record.rejected(INVALID_DATA, fault));
        }
        let id = record.id.0.as_u128();
        let digest = self.records.get(id)?.map(|digest| *digest.value());
        let Some(digest) = digest else {
            self.records.insert(id, &record.digest)?;
            self.devices.insert(id, device.0.as_u128())?;
            return Ok(record.confirmed(RecordStatus::Applied));
        };
        let first = self.devices.get(id)?.map(|first| DeviceId(Uuid::from_u128(first.value())));
        Ok(record.judge_known(&KnownRecord { digest, device: first }, device))
    }
}

fn kept_answer(
    batches: &impl ReadableTable<(u128, u128), BatchRow<'static>>,
    key: (u128, u128),
) -> Result<Option<KeptAnswer>, LedgerError> {
    let Some(row) = batches.get(key)? else {
        return Ok(None);
    };
    let (fingerprint, _, answer) = row.value();
    Ok(Some(KeptAnswer { fingerprint: *fingerprint, answer: serde_json::from_str(answer)? }))
}

fn page_after(
    applied: &impl ReadableTable<u64, AppliedRow<'static>>,
    seq: u64,
    limit: PageLimit,
) -> Result<Vec<Application>, LedgerError> {
    let mut page = Vec::new();
    let mut bytes = 0;
    for row in applied.range((Bound::Excluded(seq), Bound::Unbounded))? {
        let (seq, row) = row?;
        let row = application(seq.value(), row.value());
        bytes += row.payload.len();
        page.push(row);
        if page.len() >= limit.rows || bytes >= limit.bytes {
            break;
        }
    }
    Ok(page)
}

fn application(seq: u64, row: AppliedRow<'_>) -> Application {
    let (id, device, batch, record_type, key, applied_at, payload) = row;
    Application {
        seq,
        id: RecordId(Uuid::from_u128(id)),
        device: DeviceId(Uuid::from_u128(device)),
        batch: BatchId(Uuid::from_u128(batch)),
        record_type: record_type.into(),
        key: key.map(Into::into),
        applied_at,
        payload: payload.into(),
    }
}

fn batch_key(device: DeviceId, batch: BatchId) -> (u128, u128) {
    (device.0.as_u128(), batch.0.as_u128())
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn begin_write(database: &Database) -> Result<WriteTransaction, LedgerError> {
    let mut transaction = database.begin_write()?;
    // A second sync for each commit; without it the start after a crash reads the whole file.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Makes an empty ledger. When another process was faster, its ledger stands.
fn make(path: &Path) -> Result<(), OpenError> {
    let file_error = |source| OpenError::File { path: path.into(), source };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let new = tempfile::Builder::new().prefix(NEW_FILE_PREFIX).tempfile_in(&directory).map_err(file_error)?;
    fill(new.path()).map_err(|error| OpenError::Engine { path: path.into(), source: error.into() })?;
    new.as_file().sync_all().map_err(file_error)?;
    match new.persist_noclobber(path) {
        Ok(_) => {}
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(failed) => return Err(file_error(failed.error)),
    }
    let directory = File::open(&directory).map_err(file_error)?;
    directory.sync_all().map_err(file_error)
}

fn fill(path: &Path) -> Result<(), redb::Error> {
    let database = builder().create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(RECORD_DEVICES)?;
    transaction.open_table(APPLIED)?;
    transaction.open_table(BATCHES)?;
    transaction.open_table(ANSWERED)?;
    transaction.commit()?;
    Ok(database.close()?)
}

fn check_schema(path: &Path, database: &Database) -> Result<(), OpenError> {
    let found = || -> Result<Option<u64>, redb::Error> {
        match database.begin_read()?.open_table(META) {
            Ok(meta) => Ok(meta.get(SCHEMA_KEY)?.map(|schema| schema.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    match found() {
        Ok(Some(SCHEMA)) => Ok(()),
        Ok(Some(found)) => Err(OpenError::Schema { store: path.display().to_string(), found, known: SCHEMA }),
        Ok(None) => Err(OpenError::Foreign { path: path.into(), source: None }),
        Err(error) => Err(OpenError::Engine { path: path.into(), source: error.into() }),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_path_buf();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::Foreign { path, source: Some(source.into()) }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::File { path, source },
        error => OpenError::Engine { path, source: error.into() },
    }
}

macro_rules! storage_failure {
    ($($error:ty),*) => {$(
        impl From<$error> for LedgerError {
            fn from(error: $error) -> Self {
                Self::Storage(Box::new(redb::Error::from(error)))
            }
        }
    )*};
}

storage_failure!(
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::ledger::sha256;
    use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE, WireRecord};

    fn batch(record: RecordId, payload: &str) -> CheckedBatch {
        let record = WireRecord {
            id: record,
            record_type: "Visits".into(),
            key: None,
            created_at: 0,
            payload: RawValue::from_string(payload.into()).unwrap(),
        };
        CheckedBatch {
            device: DeviceId(Uuid::new_v4()),
            id: BatchId::new(),
            fingerprint: sha256(payload.as_bytes()),
            records: vec![CheckedRecord::new(record, None)],
        }
    }

    fn code_of(ledger: &RedbLedger, batch: &CheckedBatch) -> Option<String> {
        match ledger.settle(batch, 1).unwrap() {
            Settled::Fresh(answer) => answer.results[0].code.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_an_older_gateway_applied_is_known_without_its_device() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = RedbLedger::open(&directory.path().join("ledger.redb")).unwrap();
        let [old, new] = [RecordId::new(), RecordId::new()];
        assert_eq!(code_of(&ledger, &batch(old, "{}")), None);
        ledger
            .with(|database| {
                let transaction = begin_write(database)?;
                transaction.delete_table(RECORD_DEVICES)?;
                Ok(transaction.commit()?)
            })
            .unwrap();
        assert_eq!(code_of(&ledger, &batch(old, "{\"n\":1}")).as_deref(), Some(ID_CONFLICT));
        assert_eq!(code_of(&ledger, &batch(new, "{}")), None);
        assert_eq!(code_of(&ledger, &batch(new, "{\"n\":1}")).as_deref(), Some(ID_OF_OTHER_DEVICE));
    }
}
