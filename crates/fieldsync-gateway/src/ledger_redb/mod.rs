//! The embedded ledger: one redb file, for one gateway.
//!
//! A file under the ledger's name is always complete: it is created under another name, and renamed
//! once it is on disk. Its lock keeps other processes out.

mod database_slot;
mod delivery;
mod devices;
mod file;
mod group_commit;
mod lane_tables;
mod leases;
mod migration;
mod prune;
mod prune_clock;
mod refused;
mod settle;
mod tables;
#[cfg(test)]
mod tests;
mod token_requests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::ledger::{
    Admission, AppliedRecord, BatchSettlement, DeliveryId, DeliveryLedger, ForwardTurn, Ledger, LedgerError,
    LedgerOpenError, LedgerSize, PageLimit, StoredResponse, StoredVerdict, admit_records,
};
use super::validated_batch::ValidatedBatch;
use crate::clock::{Clock, millis, wall_ms};
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::BatchResponse;
use database_slot::{DatabaseSlot, OpenDatabase};
use delivery::{find_facts, find_old_sent, remove_sent, settled_ids, store_final_response, store_verdicts};
use file::{database_builder, open_or_create};
use group_commit::{GROUP_OPERATIONS_MAX, GroupCommit, Written};
use lane_tables::count_parked;
use leases::LeaseTable;
use prune::{FUTURE_TOLERANCE, PrunePositions, prune_listing};
use prune_clock::{PruneClock, store_seen_time};
use settle::settle_batch;
use tables::{
    ANSWERED, BATCHES, LISTING, META, OUTBOX, SCHEMA_KEY, batch_key, load_listing_after, load_outbox,
    load_response,
};

/// A ledger in a file.
pub(crate) struct RedbLedger {
    database: DatabaseSlot,
    path: PathBuf,
    writers: GroupCommit,
    /// Whether applied records go to the outbox.
    forwards: bool,
    /// Where pruning continues.
    prune_positions: Mutex<PrunePositions>,
    prune_clock: Mutex<PruneClock>,
    leases: Mutex<LeaseTable>,
    clock: Clock,
}

impl RedbLedger {
    /// Opens the ledger, and creates it if there is none. Only if this gateway `forwards`, it keeps payloads of applied
    /// records, in the outbox.
    pub(crate) fn open(path: &Path, forwards: bool) -> Result<Self, LedgerOpenError> {
        let database = open_or_create(path, forwards)?;
        let reopened = path.to_path_buf();
        let reopen = Box::new(move || Ok(database_builder().open(&reopened)?));
        Self::on_database(database, path.into(), forwards, reopen)
            .map_err(|error| LedgerOpenError::Engine { path: path.into(), source: error.into() })
    }

    fn on_database(
        database: Database,
        path: PathBuf,
        forwards: bool,
        reopen: OpenDatabase,
    ) -> Result<Self, redb::Error> {
        let clock = Clock::start();
        let prune_clock = Mutex::new(PruneClock::load(&database, clock.now(), wall_ms())?);
        Ok(Self {
            database: DatabaseSlot::new(database, clock, reopen),
            path,
            writers: GroupCommit::default(),
            forwards,
            prune_positions: Mutex::default(),
            prune_clock,
            leases: Mutex::default(),
            clock,
        })
    }

    /// As if all leases had lapsed.
    #[cfg(test)]
    pub(crate) fn end_leases(&self) {
        *self.leases() = LeaseTable::default();
    }

    fn leases(&self) -> MutexGuard<'_, LeaseTable> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prune_positions(&self) -> MutexGuard<'_, PrunePositions> {
        self.prune_positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prune_clock(&self) -> MutexGuard<'_, PruneClock> {
        self.prune_clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows from before this time are older than the retention.
    fn retention_start(&self, retention: Duration) -> u64 {
        self.prune_clock().advance(self.clock.now(), wall_ms()).saturating_sub(millis(retention))
    }

    fn store_seen_time(&self) -> Result<(), LedgerError> {
        let Some(seen) = self.prune_clock().unstored() else {
            return Ok(());
        };
        self.write(|transaction| Ok(Written::Changed(store_seen_time(transaction, seen)?)))?;
        self.prune_clock().note_stored(seen);
        Ok(())
    }

    fn with_database<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.database.with_database(operation)
    }

    /// Applies an operation in a transaction that may be shared with others. It is durable when this returns.
    fn write<T>(
        &self,
        operation: impl Fn(&WriteTransaction) -> Result<Written<T>, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.with_database(|database| self.writers.write(database, operation))
    }

    /// Deletes up to `max` responses that were given before this time.
    fn delete_responses(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        self.write(|transaction| {
            let mut by_age = transaction.open_table(ANSWERED)?;
            let mut batches = transaction.open_table(BATCHES)?;
            let mut deleted = 0;
            while deleted < max {
                let oldest = by_age.first()?.map(|(key, _)| key.value());
                let Some(key) = oldest.filter(|(at, ..)| *at < before) else {
                    break;
                };
                by_age.remove(key)?;
                batches.remove((key.1, key.2))?;
                deleted += 1;
            }
            Ok(if deleted == 0 { Written::Unchanged(deleted) } else { Written::Changed(deleted) })
        })
    }

    /// Looks at up to `max` records, and forgets those that were applied before this time.
    fn forget_records(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        let position = self.prune_positions().listing;
        let future_start = wall_ms().saturating_add(millis(FUTURE_TOLERANCE));
        let step = self.write(|transaction| {
            let step = prune_listing(transaction, position, before, future_start, max)?;
            Ok(if step.forgotten == 0 { Written::Unchanged(step) } else { Written::Changed(step) })
        })?;
        self.prune_positions().listing = step.next_position;
        Ok(step.examined)
    }

    /// Forgets up to `max` records that were sent before this time.
    fn forget_sent(&self, before: u64, max: usize) -> Result<usize, LedgerError> {
        let position = self.prune_positions().sent;
        let old = self.with_database(|database| find_old_sent(database, position, before, max))?;
        if !old.ids.is_empty() {
            self.write(|transaction| Ok(Written::Changed(remove_sent(transaction, &old.ids)?)))?;
        }
        self.prune_positions().sent = old.next_position;
        Ok(old.ids.len())
    }
}

impl Ledger for RedbLedger {
    fn writers_max(&self) -> usize {
        GROUP_OPERATIONS_MAX
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

    fn renew_claims(&self) -> Result<(), LedgerError> {
        Ok(())
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
        self.write(|transaction| {
            Ok(match settle_batch(transaction, batch, self.forwards, now)? {
                settlement @ BatchSettlement::New(_) => Written::Changed(settlement),
                settlement => Written::Unchanged(settlement),
            })
        })
    }

    fn prune_responses(&self, retention: Duration, max: usize) -> Result<usize, LedgerError> {
        self.store_seen_time()?;
        self.delete_responses(self.retention_start(retention), max)
    }

    fn prune_records(&self, retention: Duration, max: usize) -> Result<usize, LedgerError> {
        self.forget_records(self.retention_start(retention), max)
    }

    fn applied_after(&self, seq: u64, limit: PageLimit) -> Result<Vec<AppliedRecord>, LedgerError> {
        self.with_database(|database| {
            let listing = database.begin_read()?.open_table(LISTING)?;
            load_listing_after(&listing, seq, limit)
        })
    }

    fn next_to_forward(&self, limit: PageLimit) -> Result<ForwardTurn, LedgerError> {
        self.with_database(|database| {
            let outbox = database.begin_read()?.open_table(OUTBOX)?;
            Ok(ForwardTurn::ThisGateway { page: load_outbox(&outbox, limit)?, waiting: outbox.len()? })
        })
    }

    fn yield_forwarding(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    fn size_bytes(&self) -> Result<LedgerSize, LedgerError> {
        let bytes = fs::metadata(&self.path).map_err(|error| LedgerError::Storage(error.into()))?.len();
        self.with_database(|database| {
            let transaction = database.begin_read()?;
            let outbox = transaction.open_table(OUTBOX)?.len()? + count_parked(&transaction)?;
            let records = transaction.open_table(LISTING)?.len()?;
            Ok(LedgerSize { bytes: Some(bytes), records: Some(records), outbox_records: Some(outbox) })
        })
    }

    fn check_health(&self) -> Result<(), LedgerError> {
        self.with_database(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            meta.get(SCHEMA_KEY)?;
            Ok(())
        })
    }

    fn close(&self) -> Result<(), LedgerError> {
        self.database.close()
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
        self.write(|transaction| {
            Ok(Written::Changed(store_verdicts(transaction, batch, verdicts, self.forwards, now)?))
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
        let settlement = self.write(|transaction| {
            store_verdicts(transaction, batch, verdicts, self.forwards, now)?;
            Ok(Written::Changed(store_final_response(transaction, batch, response, &text, now)?))
        })?;
        self.leases().end_delivery(batch, delivery);
        Ok(settlement)
    }

    fn prune_sent(&self, retention: Duration, max: usize) -> Result<usize, LedgerError> {
        self.forget_sent(self.retention_start(retention), max)
    }

    fn take_token_request(
        &self,
        requests_max: usize,
        window: Duration,
        now: u64,
    ) -> Result<Option<Duration>, LedgerError> {
        self.write(|transaction| {
            let wait = token_requests::take_token_request(transaction, requests_max, window, now)?;
            Ok(Written::Changed(wait))
        })
    }
}
