//! Reads and writes payloads: one row each, and chunks for what does not fit on its page.

use redb::{ReadableTable, Table};

use super::codec::{self, CodecError};
use super::error::StoreError;
use super::schema::RecordHeader;

/// Reads the header of a record; none when there is no payload at this position.
pub(super) fn read_header(
    payload: &impl ReadableTable<u64, &'static [u8]>,
    position: u64,
) -> Result<Option<RecordHeader>, StoreError> {
    let Some(sealed) = payload.get(position)? else {
        return Ok(None);
    };
    Ok(Some(codec::unseal_row::<RecordHeader>(sealed.value())?.header))
}

/// Reads and verifies the payload of a record; none when there is none at this position.
pub(super) fn read_payload(
    payload: &impl ReadableTable<u64, &'static [u8]>,
    chunks: &impl ReadableTable<(u64, u32), &'static [u8]>,
    position: u64,
) -> Result<Option<(RecordHeader, Box<str>)>, StoreError> {
    let Some(sealed) = payload.get(position)? else {
        return Ok(None);
    };
    let row = codec::unseal_row::<RecordHeader>(sealed.value())?;
    let mut body = row.verified_part()?.to_vec();
    let header = row.header;
    if body.len() < header.bytes as usize {
        for (item, index) in chunks.range((position, 0)..=(position, u32::MAX))?.zip(0..) {
            let (_, sealed) = item?;
            let chunk = codec::unseal_chunk(sealed.value())?;
            if (chunk.index, chunk.digest) != (index, header.digest) {
                return Err(CodecError::Damaged("a chunk belongs to another record").into());
            }
            body.extend_from_slice(chunk.part);
        }
    }
    if body.len() != header.bytes as usize {
        return Err(CodecError::Damaged("a part of its body is missing").into());
    }
    let body = String::from_utf8(body).map_err(|_| CodecError::Damaged("it is not text"))?;
    Ok(Some((header, body.into())))
}

/// Writes a payload to a free position.
pub(super) fn write_payload(
    payload: &mut Table<'_, u64, &'static [u8]>,
    chunks: &mut Table<'_, (u64, u32), &'static [u8]>,
    header: &RecordHeader,
    body: &str,
) -> Result<(), StoreError> {
    let encoded = codec::encode_header(header)?;
    let (first, rest) = codec::split_body(encoded.len(), body.as_bytes());
    payload.insert(header.position, codec::seal_row(&encoded, first)?.as_slice())?;
    for (part, index) in rest.zip(0..) {
        let sealed = codec::seal_chunk(&header.digest, index, part)?;
        chunks.insert((header.position, index), sealed.as_slice())?;
    }
    Ok(())
}
