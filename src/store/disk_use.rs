//! What a record takes on the disk until it is settled, estimated from the record alone: so it can be taken back when the
//! record goes, and counted anew.
//!
//! Each row is reckoned with what its tree makes of it: redb stores whole rows on pages, so that a row of a little more
//! than half a page takes all of it. Measured against the growth of the file, the estimate is 0.65 to 1.25 of it, for
//! payloads from 2 bytes to 1 MB, with short and with the longest names, and with ids in order or at random
//! (`tests/disk_bytes.rs` holds it to within 40 %). Errors that are kept of a failed record are not counted.

use super::codec;

const PAGE_BYTES: u64 = 4096;
/// What a chunk has of a body.
const CHUNK_BODY_BYTES: u64 = codec::CHUNK_BODY_BYTES as u64;
/// A row of `payload` without its names and its part of the body.
const PAYLOAD_ROW_BYTES: u64 = 90;
/// A row of `manifest` without its names, on pages that are not quite full where ids come in no order.
const MANIFEST_ROW_BYTES: u64 = 110;
/// A row of the lanes without the key.
const LANE_ROW_BYTES: u64 = 40;
/// A row of `chunks` without its part of the body.
const CHUNK_ROW_BYTES: u64 = 50;
/// What a receipt takes, at least and at most, roughly.
pub(super) const RECEIPT_BYTES_MIN: u64 = 200;
pub(super) const RECEIPT_BYTES_MAX: u64 = 500;

/// What a record takes on the disk until it is settled, estimated.
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

/// What a row takes of pages that hold only whole rows.
fn bytes_on_pages(row: u64) -> u64 {
    PAGE_BYTES / (PAGE_BYTES / row.max(1)).max(1)
}
