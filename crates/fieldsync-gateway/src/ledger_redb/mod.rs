//! The embedded ledger: one redb file, for one gateway.
//!
//! A file under the ledger's name is always complete: it is created under another name, and renamed
//! once it is on disk. Its lock keeps other processes out.

mod delivery;
mod devices;
mod file;
mod leases;
mod refused;
mod settle;
mod tables;
#[cfg(test)]
mod tests;
mod token_requests;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::ledger::{
    Admission, AppliedEntry, BatchSettlement, DeliveryId, DeliveryLedger, ForwardTurn, Ledger, LedgerError,
    LedgerOpenError, PageLimit, StoredResponse, StoredVerdict, admit_records,
};
use super::validated_batch::ValidatedBatch;
use crate::clock::Clock;
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::BatchResponse;
use delivery::{find_facts, find_old_sent, remove_sent, settled_ids, store_final_response, store_verdicts};
use file::open_or_create;
use leases::LeaseTable;
use settle::settle_batch;
use tables::{
    ANSWERED, APPLIED, BATCHES, FORWARDED_KEY, META, SCHEMA_KEY, batch_key, load_page_after, load_response,
};

/// A ledger in a file.
pub(crate) struct RedbLedger {
    /// `None` once the ledger is closed.
    database: RwLock<Option<Database>>,
    leases: Mutex<LeaseTable>,
    clock: Clock,
}

impl RedbLedger {
    /// Opens the ledger, and creates it if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerOpenError> {
        let database = RwLock::new(Some(open_or_create(path)?));
        Ok(Self { database, leases: Mutex::default(), clock: Clock::start() })
    }

    /// As if all leases had lapsed.
    #[cfg(test)]
    pub(crate) fn end_leases(&self) {
        *self.leases() = LeaseTable::default();
    }

    fn leases(&self) -> MutexGuard<'_, LeaseTable> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
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

impl DeliveryLedger for RedbLedger {
    fn begin_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        lease: Duration,
    ) -> Result<Vec<Admission>, LedgerError> {
        let parts = self.leases().lease_batch(batch, delivery, lease, self.clock.now());
        let admissions = self
            .with_database(|database| find_facts(database, batch, parts))
            .map(|facts| admit_records(batch, &facts));
        let mut leases = self.leases();
        match &admissions {
            Ok(admissions) if admissions.contains(&Admission::Deliver) => {
                leases.keep_delivered(batch, delivery, admissions);
            }
            _ => leases.end_delivery(batch, delivery),
        }
        admissions
    }

    fn extend_lease(
        &self,
        _: &ValidatedBatch,
        delivery: DeliveryId,
        _: &[usize],
        lease: Duration,
    ) -> Result<bool, LedgerError> {
        Ok(self.leases().extend(delivery, lease, self.clock.now()))
    }

    fn record_verdicts(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        now: u64,
    ) -> Result<(), LedgerError> {
        self.with_database(|database| {
            let transaction = begin_write(database)?;
            store_verdicts(&transaction, batch, verdicts, now)?;
            Ok(transaction.commit()?)
        })?;
        let mut leases = self.leases();
        for id in settled_ids(batch, verdicts) {
            leases.release_record(id, delivery);
        }
        Ok(())
    }

    fn finish_delivery(
        &self,
        batch: &ValidatedBatch,
        delivery: DeliveryId,
        verdicts: &[StoredVerdict],
        response: &BatchResponse,
        now: u64,
    ) -> Result<BatchSettlement, LedgerError> {
        // Before the transaction, which keeps others waiting.
        let text = serde_json::to_string(response)?;
        let settlement = self.with_database(|database| {
            let transaction = begin_write(database)?;
            store_verdicts(&transaction, batch, verdicts, now)?;
            let settlement = store_final_response(&transaction, batch, response, &text, now)?;
            transaction.commit()?;
            Ok(settlement)
        })?;
        self.leases().end_delivery(batch, delivery);
        Ok(settlement)
    }

    fn prune_sent(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        self.with_database(|database| {
            let old = find_old_sent(database, before, max)?;
            if !old.is_empty() {
                let transaction = begin_write(database)?;
                remove_sent(&transaction, &old)?;
                transaction.commit()?;
            }
            Ok(old.len())
        })
    }

    fn take_token_request(
        &self,
        requests_max: usize,
        window: Duration,
        now: u64,
    ) -> Result<Option<Duration>, LedgerError> {
        self.with_database(|database| {
            let transaction = begin_write(database)?;
            let wait = token_requests::take_token_request(&transaction, requests_max, window, now)?;
            transaction.commit()?;
            Ok(wait)
        })
    }
}

fn begin_write(database: &Database) -> Result<WriteTransaction, LedgerError> {
    let mut transaction = database.begin_write()?;
    // A second sync for each commit; without it, the start after a crash reads the whole file.
    transaction.set_quick_repair(true);
    Ok(transaction)
}
