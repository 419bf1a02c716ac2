//! Estimates the disk space of a record until it is settled. The estimate depends on the record alone, so that it can
//! be subtracted when the record is settled, and computed again.
//!
//! redb stores whole rows on pages: a row slightly larger than half a page takes a whole one. The estimate is 0.65 to
//! 1.25 times the growth of the file, measured with payloads from 2 bytes to 1 MB, short and long names, and ordered or
//! random ids. `tests/disk_bytes.rs` checks that it is within 40 %. Stored errors of failed records are not counted.

use super::codec;

const PAGE_BYTES: u64 = 4096;
/// Body bytes in a chunk.
const CHUNK_BODY_BYTES: u64 = codec::CHUNK_BODY_BYTES as u64;
/// A row of `payload` without its type, key and body.
const PAYLOAD_ROW_BYTES: u64 = 90;
/// A row of `manifest` without its type and key. Includes partly filled pages, as random ids cause them.
const MANIFEST_ROW_BYTES: u64 = 110;
/// A row of `owned_lanes` without its key.
const LANE_ROW_BYTES: u64 = 40;
/// A row of `chunks` without its part of the body.
const CHUNK_ROW_BYTES: u64 = 50;
/// A row of `server_receipts` without its text.
const SERVER_RECEIPT_ROW_BYTES: u64 = 20;
/// Disk space of an entry in `changes`, at most: pages are at least half full.
pub(super) const CHANGE_BYTES_MAX: u64 = 70;
/// Disk space of a receipt without that of the server, at least and at most.
pub(super) const RECEIPT_BYTES_MIN: u64 = 200;
pub(super) const RECEIPT_BYTES_MAX: u64 = 500;

/// Estimates the disk space of a record until it is settled.
pub(super) fn estimate_disk_bytes(record_type: &str, key: Option<&str>, payload_bytes: u64) -> u64 {
    let names = record_type.len() as u64 + key.map_or(0, |key| key.len() as u64);
    let room = PAGE_BYTES.saturating_sub(PAYLOAD_ROW_BYTES + names);
    let (first, rest) = (payload_bytes.min(room), payload_bytes.saturating_sub(room));
    let (chunks, last_chunk) = (rest / CHUNK_BODY_BYTES, rest % CHUNK_BODY_BYTES);
    let lane = key.map_or(0, |key| bytes_on_pages(LANE_ROW_BYTES + key.len() as u64));
    let last = if last_chunk == 0 { 0 } else { bytes_on_pages(CHUNK_ROW_BYTES + last_chunk) };
    bytes_on_pages(PAYLOAD_ROW_BYTES + names + first)
        + bytes_on_pages(MANIFEST_ROW_BYTES + names)
        + lane
        + chunks * PAGE_BYTES
        + last
}

/// Estimates the disk space of a receipt of the server. The store keeps the sum on disk: another estimate needs a
/// migration.
pub(super) fn estimate_server_receipt_bytes(text_bytes: usize) -> u64 {
    bytes_on_pages(SERVER_RECEIPT_ROW_BYTES + text_bytes as u64)
}

/// A row's share of the pages, which hold whole rows only.
fn bytes_on_pages(row: u64) -> u64 {
    PAGE_BYTES / (PAGE_BYTES / row.max(1)).max(1)
}
