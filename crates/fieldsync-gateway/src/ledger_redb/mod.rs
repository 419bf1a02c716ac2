//! The embedded ledger: one redb file, for one gateway.
//!
//! A file under the ledger's name is always complete: it is created under another name, and renamed
//! once it is on disk. Its lock keeps other processes out.

mod file;
mod settle;
mod tables;

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::ledger::{
    AppliedEntry, BatchSettlement, ForwardTurn, Ledger, LedgerError, LedgerOpenError, PageLimit,
    StoredResponse,
};
use super::validated_batch::ValidatedBatch;
use crate::model::{BatchId, DeviceId};
use file::open_or_create;
use settle::settle_batch;
use tables::{
    ANSWERED, APPLIED, BATCHES, FORWARDED_KEY, META, SCHEMA_KEY, batch_key, load_page_after, load_response,
};

/// A ledger in a file.
pub(crate) struct RedbLedger {
    /// `None` once the ledger is closed.
    database: RwLock<Option<Database>>,
}

impl RedbLedger {
    /// Opens the ledger, and creates it if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerOpenError> {
        Ok(Self { database: RwLock::new(Some(open_or_create(path)?)) })
    }

    fn with_database<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        operation(database.as_ref().ok_or(LedgerError::Closed)?)
    }
}

impl Ledger for RedbLedger {
    fn writers_max(&self) -> usize {
        1
    }

    fn is_shared(&self) -> bool {
        false
    }

    // No other process opens the file: batches are in flight in this process only.

    fn claim_batch(&self, _: DeviceId, _: BatchId) -> Result<bool, LedgerError> {
        Ok(true)
    }

    fn release_batch(&self, _: DeviceId, _: BatchId) -> Result<bool, LedgerError> {
        Ok(true)
    }

    fn is_claimed(&self, _: DeviceId, _: BatchId) -> Result<bool, LedgerError> {
        Ok(false)
    }

    fn stored_response(
        &self,
        device: DeviceId,
        batch: BatchId,
    ) -> Result<Option<StoredResponse>, LedgerError> {
        self.with_database(|database| {
            let batches = database.begin_read()?.open_table(BATCHES)?;
            load_response(&batches, batch_key(device, batch))
        })
    }

    fn settle_batch(&self, batch: &ValidatedBatch, now: u64) -> Result<BatchSettlement, LedgerError> {
        self.with_database(|database| {
            let transaction = begin_write(database)?;
            let settlement = settle_batch(&transaction, batch, now)?;
            match settlement {
                BatchSettlement::New(_) => transaction.commit()?,
                BatchSettlement::Replayed(_) | BatchSettlement::IdReused => transaction.abort()?,
            }
            Ok(settlement)
        })
    }

    fn prune_responses(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        self.with_database(|database| {
            let transaction = begin_write(database)?;
            let mut deleted = 0;
            {
                let mut by_age = transaction.open_table(ANSWERED)?;
                let mut batches = transaction.open_table(BATCHES)?;
                while deleted < max {
                    let oldest = by_age.first()?.map(|(key, _)| key.value());
                    let Some(key) = oldest.filter(|(at, ..)| *at < before) else {
                        break;
                    };
                    by_age.remove(key)?;
                    batches.remove((key.1, key.2))?;
                    deleted += 1;
                }
            }
            if deleted == 0 {
                transaction.abort()?;
            } else {
                transaction.commit()?;
            }
            Ok(deleted)
        })
    }

    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<AppliedEntry>, LedgerError> {
        self.with_database(|database| {
            let applied = database.begin_read()?.open_table(APPLIED)?;
            load_page_after(&applied, seq, limit)
        })
    }

    fn next_to_forward(&self, limit: PageLimit) -> Result<ForwardTurn, LedgerError> {
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let meta = transaction.open_table(META)?;
            let forwarded = meta.get(FORWARDED_KEY)?.map_or(0, |seq| seq.value());
            let applied = transaction.open_table(APPLIED)?;
            let head = applied.last()?.map_or(0, |(seq, _)| seq.value());
            let page = load_page_after(&applied, forwarded, limit)?;
            Ok(ForwardTurn::ThisGateway { page, waiting: head.saturating_sub(forwarded) })
        })
    }

    fn mark_forwarded(&self, seq: u64) -> Result<(), LedgerError> {
        self.with_database(|database| {
            let transaction = begin_write(database)?;
            transaction.open_table(META)?.insert(FORWARDED_KEY, seq)?;
            Ok(transaction.commit()?)
        })
    }

    fn yield_forwarding(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    fn check_health(&self) -> Result<(), LedgerError> {
        self.with_database(|database| {
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

fn begin_write(database: &Database) -> Result<WriteTransaction, LedgerError> {
    let mut transaction = database.begin_write()?;
    // A second sync for each commit; without it, the start after a crash reads the whole file.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::tables::RECORD_DEVICES;
    use super::*;
    use crate::digest::sha256;
    use crate::model::RecordId;
    use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE, WireRecord};
    use crate::validated_batch::ValidatedRecord;

    fn batch(record: RecordId, payload: &str) -> ValidatedBatch {
        let record = WireRecord {
            id: record,
            record_type: "Visits".into(),
            key: None,
            priority: None,
            created_at: 0,
            payload: RawValue::from_string(payload.into()).unwrap(),
        };
        ValidatedBatch {
            device: DeviceId(Uuid::new_v4()),
            id: BatchId::new(),
            fingerprint: sha256(payload.as_bytes()),
            records: vec![ValidatedRecord::new(record, None)],
        }
    }

    fn code_of(ledger: &RedbLedger, batch: &ValidatedBatch) -> Option<String> {
        match ledger.settle_batch(batch, 1).unwrap() {
            BatchSettlement::New(response) => response.results[0].code.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_that_an_older_gateway_applied_is_known_without_its_device() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = RedbLedger::open(&directory.path().join("ledger.redb")).unwrap();
        let [old, new] = [RecordId::new(), RecordId::new()];
        assert_eq!(code_of(&ledger, &batch(old, "{}")), None);
        ledger
            .with_database(|database| {
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
