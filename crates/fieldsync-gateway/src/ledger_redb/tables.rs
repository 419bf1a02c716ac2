//! The tables of the file, and how their rows are read.

use std::ops::Bound;

use redb::{ReadableTable, TableDefinition};
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::ledger::{AppliedRecord, LedgerError, OutboxEntry, PageLimit, StoredResponse};
use crate::model::{BatchId, DeviceId, RecordId};
use crate::protocol::receipt::Receipt;
use crate::validated_batch::KnownRecord;

/// The version of the table layout.
pub(super) const SCHEMA: u64 = 2;
pub(super) const SCHEMA_KEY: &str = "schema";
/// Whether a gateway that forwards has ever opened the file.
pub(super) const FORWARDS_KEY: &str = "forwards";

/// Facts about the file: the keys above.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Record id → digest: the index that lets a record be applied once.
pub(super) const RECORDS: TableDefinition<'_, u128, &Sha256Digest> = TableDefinition::new("records");
/// Record id → the device that sent it first. Missing for records that older gateways applied, and for those with a
/// receipt, which has the device.
pub(super) const RECORD_DEVICES: TableDefinition<'_, u128, u128> = TableDefinition::new("record_devices");
/// Record id → the device that sent it first, and the receipt of the destination. Missing for records that were applied
/// without a destination.
pub(super) const RECORD_RECEIPTS: TableDefinition<'_, u128, ReceiptColumns<'_>> =
    TableDefinition::new("record_receipts");
/// Record id → digest, device, and when it was sent, of records that were sent without a certain outcome. Removed once
/// the record is applied or rejected.
pub(super) const SENT: TableDefinition<'_, u128, SentColumns<'_>> = TableDefinition::new("sent");
/// A number → when an access token was asked for. Few rows: those of the time that a budget looks at.
pub(super) const TOKEN_REQUESTS: TableDefinition<'_, u64, u64> = TableDefinition::new("token_requests");
/// Sequence number → record, device, batch, type, key, time of application. Append-only until its first rows are pruned,
/// and written without reading the index, so that a failure of the index would show here. Its last row stays, so that no
/// number is used twice.
pub(super) const LISTING: TableDefinition<'_, u64, ListingColumns<'_>> = TableDefinition::new("listing");
/// Sequence number → the same and the payload, of records that are to be forwarded.
pub(super) const OUTBOX: TableDefinition<'_, u64, OutboxColumns<'_>> = TableDefinition::new("outbox");
/// Device and batch → fingerprint, time of the response, response.
pub(super) const BATCHES: TableDefinition<'_, (u128, u128), ResponseColumns<'_>> =
    TableDefinition::new("batches");
/// Time of the response, device and batch: the order in which responses are deleted.
pub(super) const ANSWERED: TableDefinition<'_, (u64, u128, u128), ()> = TableDefinition::new("answered");

pub(super) type ListingColumns<'a> = (u128, u128, u128, &'a str, Option<&'a str>, u64);
pub(super) type OutboxColumns<'a> = (u128, u128, u128, &'a str, Option<&'a str>, u64, &'a str);
pub(super) type SentColumns<'a> = (&'a Sha256Digest, u128, u64);
pub(super) type ResponseColumns<'a> = (&'a Sha256Digest, u64, &'a str);

pub(super) type ReceiptColumns<'a> = (u128, &'a str);

pub(super) fn batch_key(device: DeviceId, batch: BatchId) -> (u128, u128) {
    (device.0.as_u128(), batch.0.as_u128())
}

/// What is known of an applied record.
pub(super) fn load_known(
    records: &impl ReadableTable<u128, &'static Sha256Digest>,
    devices: &impl ReadableTable<u128, u128>,
    receipts: &impl ReadableTable<u128, ReceiptColumns<'static>>,
    id: RecordId,
) -> Result<Option<KnownRecord>, LedgerError> {
    let id = id.0.as_u128();
    let Some(digest) = records.get(id)?.map(|digest| *digest.value()) else {
        return Ok(None);
    };
    let (device, receipt) = match receipts.get(id)? {
        Some(row) => {
            let (device, receipt) = row.value();
            (Some(device), Receipt::parse(receipt))
        }
        None => (devices.get(id)?.map(|device| device.value()), None),
    };
    let device = device.map(|device| DeviceId(Uuid::from_u128(device)));
    Ok(Some(KnownRecord { digest, device, receipt }))
}

pub(super) fn load_response(
    batches: &impl ReadableTable<(u128, u128), ResponseColumns<'static>>,
    key: (u128, u128),
) -> Result<Option<StoredResponse>, LedgerError> {
    let Some(row) = batches.get(key)? else {
        return Ok(None);
    };
    let (fingerprint, _, response) = row.value();
    Ok(Some(StoredResponse { fingerprint: *fingerprint, response: serde_json::from_str(response)? }))
}

/// A page of the listing.
pub(super) fn load_listing_after(
    listing: &impl ReadableTable<u64, ListingColumns<'static>>,
    seq: u64,
    limit: PageLimit,
) -> Result<Vec<AppliedRecord>, LedgerError> {
    let mut page = Vec::new();
    let mut bytes = 0;
    for row in listing.range((Bound::Excluded(seq), Bound::Unbounded))? {
        let (seq, columns) = row?;
        let record = decode_record(seq.value(), columns.value());
        bytes += record.record_type.len() + record.key.as_ref().map_or(0, String::len);
        page.push(record);
        if page.len() >= limit.rows || bytes >= limit.bytes {
            break;
        }
    }
    Ok(page)
}

/// The first page of the outbox.
pub(super) fn load_outbox(
    outbox: &impl ReadableTable<u64, OutboxColumns<'static>>,
    limit: PageLimit,
) -> Result<Vec<OutboxEntry>, LedgerError> {
    let mut page = Vec::new();
    let mut bytes = 0;
    for row in outbox.iter()? {
        let (seq, columns) = row?;
        let entry = decode_entry(seq.value(), columns.value());
        bytes += entry.payload.len();
        page.push(entry);
        if page.len() >= limit.rows || bytes >= limit.bytes {
            break;
        }
    }
    Ok(page)
}

pub(super) fn decode_record(seq: u64, columns: ListingColumns<'_>) -> AppliedRecord {
    let (id, device, batch, record_type, key, applied_at) = columns;
    AppliedRecord {
        seq,
        id: RecordId(Uuid::from_u128(id)),
        device: DeviceId(Uuid::from_u128(device)),
        batch: BatchId(Uuid::from_u128(batch)),
        record_type: record_type.into(),
        key: key.map(Into::into),
        applied_at,
    }
}

pub(super) fn decode_entry(seq: u64, columns: OutboxColumns<'_>) -> OutboxEntry {
    let (id, device, batch, record_type, key, applied_at, payload) = columns;
    let record = decode_record(seq, (id, device, batch, record_type, key, applied_at));
    OutboxEntry { record, payload: payload.into() }
}

macro_rules! impl_storage_error {
    ($($error:ty),*) => {$(
        impl From<$error> for LedgerError {
            fn from(error: $error) -> Self {
                to_ledger_error(redb::Error::from(error))
            }
        }
    )*};
}

/// After an I/O error, the database works again once it was opened again.
fn to_ledger_error(error: redb::Error) -> LedgerError {
    match error {
        redb::Error::Io(_) | redb::Error::PreviousIo => LedgerError::Unreachable(error.into()),
        error => LedgerError::Storage(error.into()),
    }
}

impl_storage_error!(
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);
