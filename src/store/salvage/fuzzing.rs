//! Interface of the raw search for fuzz targets.

use super::carve;
use super::damaged_tables::shrink_references;
use super::filler::{SalvagedItem, StoreFiller};
use crate::store::append::content_digest;
use crate::store::codec::{self, CHUNK_MAGIC, ROW_MAGIC, SealedRow, StoredRow};
use crate::store::counters::Counters;
use crate::store::key_space::KeySpace;
use crate::store::schema::{BatchRow, ManifestRow, RecordHeader};
use crate::store::server_receipts::decode_receipt;
use redb::Database;
use redb::backends::InMemoryBackend;

/// Corrects the checksums of every row and chunk in these bytes, and the digest if requested: a fuzzer does not find
/// them.
pub fn reseal(bytes: &mut [u8], with_digest: bool) {
    for at in 0..bytes.len() {
        let Some(rest) = bytes.get_mut(at..) else { break };
        if rest.starts_with(ROW_MAGIC) {
            reseal_row(rest, with_digest);
        } else if rest.starts_with(CHUNK_MAGIC) {
            reseal_chunk(rest);
        }
    }
}

/// Removes most references to pages of up to 4 GiB from a file. redb allocates such a page before it checks whether it
/// exists. The raw search does the same, but opening a store does not.
pub fn shrink_pages(file: &mut [u8]) {
    let length = file.len() as u64;
    file.chunks_mut(4096).for_each(|page| shrink_references(page, length));
}

/// The length stored at `at`, if it fits into the bytes.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
    (length <= bytes.len()).then_some(length)
}

fn reseal_row(row: &mut [u8], with_digest: bool) -> Option<()> {
    let part_from = 16 + length_at(row, 4)?;
    let part_to = part_from + length_at(row, 8)?;
    let part_crc = crc32fast::hash(row.get(part_from..part_to)?);
    row.get_mut(part_to..part_to + 4)?.copy_from_slice(&part_crc.to_le_bytes());
    reseal_header(row, part_from)?;
    if with_digest
        && let Ok(SealedRow { header, .. }) = codec::unseal_row::<RecordHeader>(row)
        && let Ok(body) = str::from_utf8(row.get(part_from..part_to)?)
    {
        let digest = content_digest(&header.record_type, header.key.as_deref(), body);
        row.get_mut(part_from - digest.len()..part_from)?.copy_from_slice(&digest);
        reseal_header(row, part_from)?;
    }
    Some(())
}

fn reseal_header(row: &mut [u8], to: usize) -> Option<()> {
    let crc = crc32fast::hash(&[row.get(..12)?, row.get(16..to)?].concat());
    row.get_mut(12..16)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

fn reseal_chunk(chunk: &mut [u8]) -> Option<()> {
    let to = 28 + length_at(chunk, 24)?;
    let crc = crc32fast::hash(chunk.get(..to)?);
    chunk.get_mut(to..to + 4)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// Runs the raw search repeatedly.
pub struct Carver(StoreFiller<'static>);

impl Carver {
    /// Uses a database in memory, which never receives anything.
    pub fn new() -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        Self(StoreFiller::new(Box::leak(Box::new(database)), KeySpace::default()).unwrap())
    }

    /// Panics if the search finds something that is not in the bytes.
    pub fn assert_carved(&mut self, bytes: &[u8]) {
        // The bytes are a block at the end of a file.
        let next = carve::scan_block(bytes, 0, 0, &mut None, &mut self.0).unwrap();
        assert_eq!(next, 0);
        let mut last = None;
        for found in self.0.take_found() {
            match found {
                SalvagedItem::Carved { header, body } => {
                    assert_eq!(header.bytes as usize, body.len());
                    assert_eq!(
                        header.digest,
                        content_digest(&header.record_type, header.key.as_deref(), &body)
                    );
                    let key = header.key.as_deref().unwrap_or("");
                    for text in [&*header.record_type, key, &body] {
                        assert!(is_part(bytes, text.as_bytes()));
                    }
                }
                SalvagedItem::PartialRow { offset, .. } => assert_magic(bytes, offset, ROW_MAGIC, &mut last),
                SalvagedItem::Chunk { offset, .. } => assert_magic(bytes, offset, CHUNK_MAGIC, &mut last),
                SalvagedItem::Record { .. }
                | SalvagedItem::Receipt { .. }
                | SalvagedItem::MissingPayload { .. } => {
                    unreachable!()
                }
            }
        }
    }
}

fn is_part(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|some| some == part)
}

fn assert_magic(bytes: &[u8], offset: u64, magic: &[u8], last: &mut Option<u64>) {
    assert!(bytes[offset as usize..].starts_with(magic));
    assert!(last.is_none_or(|last| last < offset), "what was found twice");
    *last = Some(offset);
}

/// Panics unless the bytes are not a row of any table, or a row that decodes and encodes to the same.
pub fn assert_rows(bytes: &[u8]) {
    assert_row::<RecordHeader>(bytes);
    assert_row::<ManifestRow>(bytes);
    assert_row::<BatchRow>(bytes);
    assert_row::<Counters>(bytes);
    if let Ok(receipt) = decode_receipt(bytes) {
        assert_eq!(decode_receipt(receipt.as_str().as_bytes()).unwrap(), receipt);
    }
}

fn assert_row<T: StoredRow + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(row) = codec::decode_row::<T>(bytes) {
        let again: T = codec::decode_row(&codec::encode_row(&row).unwrap()).unwrap();
        assert_eq!(again, row);
    }
}
