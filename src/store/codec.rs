//! Encodes the values of the store. No other file uses bincode.
//!
//! A value is a version byte and a row in bincode. bincode has no schema evolution: a changed row needs a new
//! version and a migration, never a new field with a default.
//!
//! Payloads are sealed, because redb's reads verify nothing. The magic number lets `salvage` search a raw file
//! for records when redb cannot open it. The header has its own checksum, so that a record with a damaged
//! body can still be identified.
//!
//! ```text
//! row    "fsr1" | header length u32 | part length u32 | CRC-32 of these and the header | header (bincode) | part | CRC-32 of the part
//! chunk  "fsc1" | digest of the record, 16 bytes | index u32 | part length u32 | part | CRC-32 of all before
//! ```
//!
//! Lengths and checksums are little-endian. The rest of a body that does not fit into its row follows in
//! chunks: redb rounds a value larger than a page up to the next power of two.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version of rows that have had no other.
pub(super) const ROW_VERSION: u8 = 1;
pub(super) const ROW_MAGIC: &[u8; 4] = b"fsr1";
pub(super) const CHUNK_MAGIC: &[u8; 4] = b"fsc1";
const ROW_PREFIX_BYTES: usize = 16;
const CHUNK_PREFIX_BYTES: usize = 28;
const CRC_BYTES: usize = 4;
const TOO_SHORT: CodecError = CodecError::Damaged("it is too short");

/// No row is larger. Protects against the length in a damaged value.
const ROW_BYTES_MAX: usize = 4 << 20;

const BINCODE_CONFIG: Configuration<LittleEndian, Varint, Limit<ROW_BYTES_MAX>> =
    bincode::config::standard().with_limit::<ROW_BYTES_MAX>();

/// Why a value cannot be decoded.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Written by another version.
    #[error("a value has version {0}, which this program does not know")]
    Version(u8),
    /// The bytes are not those that were written.
    #[error("a value is damaged: {0}")]
    Damaged(&'static str),
    /// bincode cannot decode the bytes.
    #[error("a value is damaged")]
    Decode(#[from] bincode::error::DecodeError),
    /// The row cannot be encoded.
    #[error("a row cannot be encoded")]
    Encode(#[from] bincode::error::EncodeError),
}

/// A row as it is on disk: a version byte, and its content.
pub(super) trait StoredRow: Sized {
    fn encode(&self) -> Result<Vec<u8>, CodecError>;
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

impl<T: Serialize + DeserializeOwned> StoredRow for T {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        encode_version(ROW_VERSION, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode_version(ROW_VERSION, bytes)
    }
}

/// Encodes a row, with its version.
pub(super) fn encode_row(row: &impl StoredRow) -> Result<Vec<u8>, CodecError> {
    row.encode()
}

/// Decodes a row of a version that this program knows.
pub(super) fn decode_row<T: StoredRow>(bytes: &[u8]) -> Result<T, CodecError> {
    T::decode(bytes)
}

pub(super) fn encode_version(version: u8, row: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![version];
    bytes.extend(bincode::serde::encode_to_vec(row, BINCODE_CONFIG)?);
    Ok(bytes)
}

pub(super) fn decode_version<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&found, row)) if found == version => decode_bincode(row),
        Some((&other, _)) => Err(CodecError::Version(other)),
        None => Err(CodecError::Damaged("it is empty")),
    }
}

fn decode_bincode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (row, used) = bincode::serde::decode_from_slice(bytes, BINCODE_CONFIG)?;
    if used == bytes.len() { Ok(row) } else { Err(CodecError::Damaged("it is longer than its row")) }
}

/// The most bytes of a sealed row or chunk: with its key it fits on a page of 4 KiB.
const SEALED_BYTES_MAX: usize = 4000;
/// The most bytes of a body in one chunk.
pub(super) const CHUNK_BODY_BYTES: usize = SEALED_BYTES_MAX - CHUNK_PREFIX_BYTES - CRC_BYTES;

/// Splits a body into the part for the row, behind a header of this length, and the parts for chunks.
pub(super) fn split_body(header_length: usize, body: &[u8]) -> (&[u8], impl Iterator<Item = &[u8]>) {
    let room = SEALED_BYTES_MAX.saturating_sub(ROW_PREFIX_BYTES + header_length + CRC_BYTES);
    let (first, rest) = body.split_at(room.min(body.len()));
    (first, rest.chunks(CHUNK_BODY_BYTES))
}

/// Encodes a header, for [`seal_row`].
pub(super) fn encode_header(header: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    Ok(bincode::serde::encode_to_vec(header, BINCODE_CONFIG)?)
}

/// Seals the row of a record: its header and the first part of its body.
pub(super) fn seal_row(header: &[u8], part: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut sealed = Vec::with_capacity(ROW_PREFIX_BYTES + header.len() + part.len() + CRC_BYTES);
    sealed.extend_from_slice(ROW_MAGIC);
    sealed.extend_from_slice(&encode_length(header.len())?);
    sealed.extend_from_slice(&encode_length(part.len())?);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sealed);
    crc.update(header);
    sealed.extend_from_slice(&crc.finalize().to_le_bytes());
    sealed.extend_from_slice(header);
    sealed.extend_from_slice(part);
    sealed.extend_from_slice(&crc32fast::hash(part).to_le_bytes());
    Ok(sealed)
}

/// A sealed row whose header is verified.
pub(super) struct SealedRow<'a, T> {
    /// The decoded header.
    pub(super) header: T,
    rest: &'a [u8],
    part_length: usize,
    header_length: usize,
}

impl<'a, T> SealedRow<'a, T> {
    /// The first part of the body, after its checksum was verified.
    pub(super) fn verified_part(&self) -> Result<&'a [u8], CodecError> {
        let (part, crc) = self.rest.split_at_checked(self.part_length).ok_or(TOO_SHORT)?;
        let crc = crc.first_chunk::<CRC_BYTES>().ok_or(TOO_SHORT)?;
        if crc32fast::hash(part) == u32::from_le_bytes(*crc) {
            Ok(part)
        } else {
            Err(CodecError::Damaged("the checksum of its body is wrong"))
        }
    }

    /// The length of the sealed row, from its header.
    pub(super) fn sealed_length(&self) -> usize {
        ROW_PREFIX_BYTES + self.header_length + self.part_length + CRC_BYTES
    }
}

/// Reads the row at the start of `bytes`, which may be longer.
pub(super) fn unseal_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<SealedRow<'_, T>, CodecError> {
    let (magic, after) = bytes.split_first_chunk::<4>().ok_or(TOO_SHORT)?;
    let (header_length, after) = read_u32(after)?;
    let (part_length, after) = read_u32(after)?;
    let (crc, after) = read_u32(after)?;
    if magic != ROW_MAGIC {
        return Err(CodecError::Damaged("it is not a payload"));
    }
    let (header, rest) = after.split_at_checked(header_length as usize).ok_or(TOO_SHORT)?;
    let mut found = crc32fast::Hasher::new();
    found.update(bytes.get(..ROW_PREFIX_BYTES - CRC_BYTES).ok_or(TOO_SHORT)?);
    found.update(header);
    if found.finalize() != crc {
        return Err(CodecError::Damaged("the checksum of its header is wrong"));
    }
    let header = decode_bincode(header)?;
    Ok(SealedRow { header, rest, part_length: part_length as usize, header_length: header_length as usize })
}

/// Seals a further part of a body.
pub(super) fn seal_chunk(digest: &[u8; 16], index: u32, part: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut sealed = Vec::with_capacity(CHUNK_PREFIX_BYTES + part.len() + CRC_BYTES);
    sealed.extend_from_slice(CHUNK_MAGIC);
    sealed.extend_from_slice(digest);
    sealed.extend_from_slice(&index.to_le_bytes());
    sealed.extend_from_slice(&encode_length(part.len())?);
    sealed.extend_from_slice(part);
    sealed.extend_from_slice(&crc32fast::hash(&sealed).to_le_bytes());
    Ok(sealed)
}

/// A chunk whose checksum is verified.
pub(super) struct BodyChunk<'a> {
    /// Digest of the record that the chunk belongs to.
    pub(super) digest: [u8; 16],
    /// Counts from 0.
    pub(super) index: u32,
    /// This part of the body.
    pub(super) part: &'a [u8],
}

impl BodyChunk<'_> {
    /// The length of the sealed chunk.
    pub(super) fn sealed_length(&self) -> usize {
        CHUNK_PREFIX_BYTES + self.part.len() + CRC_BYTES
    }
}

/// Reads the chunk at the start of `bytes`, which may be longer.
pub(super) fn unseal_chunk(bytes: &[u8]) -> Result<BodyChunk<'_>, CodecError> {
    let (magic, after) = bytes.split_first_chunk::<4>().ok_or(TOO_SHORT)?;
    let (digest, after) = after.split_first_chunk::<16>().ok_or(TOO_SHORT)?;
    let (index, after) = read_u32(after)?;
    let (part_length, after) = read_u32(after)?;
    let (part, after) = after.split_at_checked(part_length as usize).ok_or(TOO_SHORT)?;
    let (crc, _) = read_u32(after)?;
    let sealed = bytes.get(..CHUNK_PREFIX_BYTES + part.len()).ok_or(TOO_SHORT)?;
    if magic != CHUNK_MAGIC || crc32fast::hash(sealed) != crc {
        return Err(CodecError::Damaged("the checksum of a chunk is wrong"));
    }
    Ok(BodyChunk { digest: *digest, index, part })
}

fn encode_length(bytes: usize) -> Result<[u8; 4], CodecError> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(|_| CodecError::Damaged("it is too long"))
}

fn read_u32(bytes: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(TOO_SHORT)?;
    Ok((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_round_trip_and_other_versions_are_reported() {
        let row = (7u64, "key".to_owned(), Some(3u8));
        let mut bytes = encode_row(&row).unwrap();
        assert_eq!(decode_row::<(u64, String, Option<u8>)>(&bytes).unwrap(), row);
        bytes.push(0);
        assert!(matches!(decode_row::<(u64, String, Option<u8>)>(&bytes), Err(CodecError::Damaged(_))));
        bytes[0] = 9;
        assert!(matches!(decode_row::<(u64, String, Option<u8>)>(&bytes), Err(CodecError::Version(9))));
        assert!(matches!(decode_row::<u8>(&[]), Err(CodecError::Damaged(_))));
    }

    #[test]
    fn the_bytes_on_disk_stay_the_same() {
        assert_eq!(
            encode_row(&(300u64, "ab".to_owned(), None::<u8>)).unwrap(),
            b"\x01\xfb\x2c\x01\x02ab\x00"
        );
        let sealed = seal_row(&encode_header(&(1u8, 2u8)).unwrap(), b"{}").unwrap();
        assert_eq!(sealed[..12], *b"fsr1\x02\0\0\0\x02\0\0\0");
        assert_eq!(sealed[16..20], *b"\x01\x02{}");
        let chunk = seal_chunk(&[7; 16], 1, b"{}").unwrap();
        assert_eq!(chunk[20..30], *b"\x01\0\0\0\x02\0\0\0{}");
    }

    #[test]
    fn a_damaged_body_leaves_its_header_readable() {
        let mut sealed = seal_row(&encode_header(&7u64).unwrap(), b"{}").unwrap();
        let end = sealed.len();
        sealed[end - 6] ^= 1;
        let row = unseal_row::<u64>(&sealed).unwrap();
        assert_eq!(row.header, 7);
        assert!(row.verified_part().is_err());
    }

    #[test]
    fn a_split_body_is_complete_and_each_part_fits_on_a_page() {
        for length in [0, 1, 3900, 3979, 3980, 3981, 8000, 100_000] {
            let body = vec![b'x'; length];
            let (first, rest) = split_body(40, &body);
            let rest: Vec<&[u8]> = rest.collect();
            assert_eq!([&[first], rest.as_slice()].concat().concat(), body);
            assert!(seal_row(&[0; 40], first).unwrap().len() <= SEALED_BYTES_MAX);
            for (part, index) in rest.iter().zip(0..) {
                let sealed = seal_chunk(&[1; 16], index, part).unwrap();
                assert!(sealed.len() <= SEALED_BYTES_MAX);
                let chunk = unseal_chunk(&sealed).unwrap();
                assert_eq!((chunk.digest, chunk.index, chunk.part), ([1; 16], index, *part));
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_round_trips_and_every_flipped_bit_is_detected(
            body in ".{0,200}", byte: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut sealed = seal_row(&encode_header(&(5u64, "type".to_owned())).unwrap(), body.as_bytes()).unwrap();
            let row = unseal_row::<(u64, String)>(&sealed).unwrap();
            prop_assert_eq!(row.verified_part().unwrap(), body.as_bytes());
            prop_assert_eq!(row.header, (5, "type".to_owned()));
            let at = byte.index(sealed.len());
            sealed[at] ^= 1 << bit;
            let seen = unseal_row::<(u64, String)>(&sealed).and_then(|row| row.verified_part().map(<[u8]>::to_vec));
            prop_assert!(seen.is_err());
        }

        #[test]
        fn a_flipped_bit_in_a_chunk_is_detected(byte: prop::sample::Index, bit in 0u8..8) {
            let mut sealed = seal_chunk(&[3; 16], 9, b"some part").unwrap();
            let at = byte.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(unseal_chunk(&sealed).is_err());
        }

        #[test]
        fn random_bytes_are_rejected(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(unseal_row::<(u64, String)>(&bytes).is_err());
            prop_assert!(unseal_chunk(&bytes).is_err());
        }
    }
}
