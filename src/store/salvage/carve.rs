//! Carves records out of the raw bytes of a file, for those that the tables do not lead to.
//!
//! Every payload is sealed with a magic number and checksums. JSON cannot imitate them because it contains no zero
//! bytes. The file is read in blocks that overlap by the longest row. Chunks may lie before or behind their row, so a
//! second pass assembles rows with chunks.

use super::damaged_tables::DamagedTables;
use super::filler::{SalvagedItem, StoreFiller};
use super::raw_file::RawFile;
use crate::store::append::content_digest;
use crate::store::codec::{self, CHUNK_MAGIC, ROW_MAGIC};
use crate::store::error::StoreError;
use crate::store::options::ProgressCallback;
use crate::store::schema::RecordHeader;

/// Bytes to read at once.
const BLOCK_BYTES: usize = 1 << 20;
/// No row or chunk is longer.
const LONGEST_ROW_BYTES: usize = 8192;

/// Adds every record that the new database lacks, except those with a receipt in `tables`.
pub(super) fn carve_file(
    raw: &RawFile,
    mut tables: Option<DamagedTables>,
    filler: &mut StoreFiller<'_>,
    progress: &ProgressCallback,
) -> Result<(), StoreError> {
    let mut block = vec![0; BLOCK_BYTES + LONGEST_ROW_BYTES];
    let mut offset = 0;
    let mut skip = 0;
    while offset < raw.byte_length() {
        raw.read_or_zero(offset, &mut block);
        skip = scan_block(&block, offset, skip, &mut tables, filler)?;
        offset += BLOCK_BYTES as u64;
        #[expect(clippy::cast_precision_loss, reason = "how far it has come, for people")]
        progress((offset as f64 / raw.byte_length() as f64).min(1.0));
    }
    filler.commit_items()?;
    assemble_chunked(raw, filler)
}

/// Examines rows and chunks that start in the block, from `start`. Returns where to start in the next block.
pub(super) fn scan_block(
    block: &[u8],
    offset: u64,
    start: usize,
    tables: &mut Option<DamagedTables>,
    filler: &mut StoreFiller<'_>,
) -> Result<usize, StoreError> {
    let mut at = start;
    while at < BLOCK_BYTES {
        let rest = block.get(at..).unwrap_or_default();
        let Some(next) = rest.iter().position(|byte| *byte == ROW_MAGIC[0]) else { return Ok(0) };
        at += next;
        let rest = block.get(at..).unwrap_or_default();
        if at >= BLOCK_BYTES {
            break;
        }
        let length = if rest.starts_with(ROW_MAGIC) {
            carve_row(rest, offset + at as u64, tables, filler)?
        } else if rest.starts_with(CHUNK_MAGIC) {
            carve_chunk(rest, offset + at as u64, filler)?
        } else {
            None
        };
        at += length.unwrap_or(1);
    }
    Ok(at.saturating_sub(BLOCK_BYTES))
}

fn carve_row(
    bytes: &[u8],
    offset: u64,
    tables: &mut Option<DamagedTables>,
    filler: &mut StoreFiller<'_>,
) -> Result<Option<usize>, StoreError> {
    let Ok(row) = codec::unseal_row::<RecordHeader>(bytes) else { return Ok(None) };
    let (Ok(part), length) = (row.verified_part(), row.sealed_length()) else { return Ok(None) };
    let header = row.header;
    if tables.as_mut().is_some_and(|tables| tables.has_receipt(&header)) {
        return Ok(Some(length));
    }
    if part.len() < header.bytes as usize {
        let digest = u128::from_le_bytes(header.digest);
        filler.add_item(SalvagedItem::PartialRow { id: header.id, digest, offset })?;
    } else if let Some(body) = verified_text(&header, part.to_vec()) {
        filler.add_item(SalvagedItem::Carved { header, body })?;
    }
    Ok(Some(length))
}

fn carve_chunk(bytes: &[u8], offset: u64, filler: &mut StoreFiller<'_>) -> Result<Option<usize>, StoreError> {
    let Ok(chunk) = codec::unseal_chunk(bytes) else { return Ok(None) };
    let digest = u128::from_le_bytes(chunk.digest);
    filler.add_item(SalvagedItem::Chunk { digest, index: chunk.index, offset })?;
    Ok(Some(chunk.sealed_length()))
}

/// The body as text, if size and digest match the header.
fn verified_text(header: &RecordHeader, body: Vec<u8>) -> Option<Box<str>> {
    let body = String::from_utf8(body).ok().filter(|body| body.len() == header.bytes as usize)?;
    let digest = content_digest(&header.record_type, header.key.as_deref(), &body);
    (digest == header.digest).then(|| body.into_boxed_str())
}

/// Assembles rows with their chunks.
fn assemble_chunked(raw: &RawFile, filler: &mut StoreFiller<'_>) -> Result<(), StoreError> {
    let mut after = None;
    let mut buffer = vec![0; LONGEST_ROW_BYTES];
    while let Some((id, digest, offset)) = filler.next_partial(after)? {
        after = Some((id, digest));
        raw.read_or_zero(offset, &mut buffer);
        let Ok(row) = codec::unseal_row::<RecordHeader>(&buffer) else { continue };
        let Ok(mut body) = row.verified_part().map(<[u8]>::to_vec) else { continue };
        let header = row.header;
        for index in 0.. {
            if body.len() >= header.bytes as usize {
                break;
            }
            let Some(offset) = filler.find_chunk(digest, index)? else { break };
            raw.read_or_zero(offset, &mut buffer);
            let Ok(chunk) = codec::unseal_chunk(&buffer) else { break };
            body.extend_from_slice(chunk.part);
        }
        if let Some(body) = verified_text(&header, body) {
            filler.add_item(SalvagedItem::Carved { header, body })?;
        }
    }
    filler.commit_items()
}
