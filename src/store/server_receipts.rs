//! What the server said a record became, for SYNCED records of which it said so.
//!
//! The table is beside `receipts`, whose rows stay as they are: stores of earlier versions have no such table, and it is
//! created by the first commit. A row goes with the row of its record in `receipts`.

use redb::{ReadableTable, Table};

use super::codec::CodecError;
use super::counters::Counters;
use super::disk_use::estimate_server_receipt_bytes;
use super::error::StoreError;
use crate::protocol::receipt::Receipt;

/// The receipt in a row.
pub(super) fn decode_receipt(row: &[u8]) -> Result<Receipt, CodecError> {
    let receipt = std::str::from_utf8(row).ok().and_then(Receipt::parse);
    receipt.ok_or(CodecError::Damaged("it is not a receipt"))
}

/// Stores the receipt of the record at a position.
pub(super) fn insert_receipt(
    table: &mut Table<'_, u64, &'static [u8]>,
    counters: &mut Counters,
    position: u64,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    let text = receipt.as_str().as_bytes();
    table.insert(position, text)?;
    counters.server_receipt_bytes += estimate_server_receipt_bytes(text.len());
    Ok(())
}

/// The receipt of the record at a position, if the server gave one.
pub(super) fn read_receipt(
    table: &impl ReadableTable<u64, &'static [u8]>,
    position: u64,
) -> Result<Option<Receipt>, StoreError> {
    let row = table.get(position)?;
    Ok(row.map(|row| decode_receipt(row.value())).transpose()?)
}

/// Removes the receipt of the record at a position, if there is one.
pub(super) fn remove_receipt(
    table: &mut Table<'_, u64, &'static [u8]>,
    counters: &mut Counters,
    position: u64,
) -> Result<(), StoreError> {
    if let Some(row) = table.remove(position)? {
        let bytes = estimate_server_receipt_bytes(row.value().len());
        counters.server_receipt_bytes = counters.server_receipt_bytes.saturating_sub(bytes);
    }
    Ok(())
}
