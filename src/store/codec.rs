//! Values in the store: the only file that knows bincode.
//!
//! A value is a version byte and the bincode of a row. bincode has no schema evolution, so a
//! changed row is a new version and a migration, never a new field with a default.
//!
//! A payload is sealed: magic, lengths, header, body, and a CRC-32 over all of it. redb's ordinary
//! reads verify nothing, and the magic lets a raw file be searched for records when redb cannot
//! open it.
//!
//! ```text
//! "fsr1" | header length u32 | body length u32 | header (bincode) | body | CRC-32 of all before
//! ```

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

const VERSION: u8 = 1;
const MAGIC: &[u8; 4] = b"fsr1";
const PREFIX: usize = 12;
const CRC: usize = 4;

/// No row is larger: a length that a damaged value claims is not believed.
const MAX_ROW_BYTES: usize = 4 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_ROW_BYTES>> =
    bincode::config::standard().with_limit::<MAX_ROW_BYTES>();

/// Why a value does not read.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Written by another version.
    #[error("a value has version {0}, which this program does not know")]
    Version(u8),
    /// Not what was written.
    #[error("a value is damaged: {0}")]
    Damaged(&'static str),
    /// Not what was written, says bincode.
    #[error("a value is damaged")]
    Decode(#[from] bincode::error::DecodeError),
    /// A row that cannot be written.
    #[error("a row cannot be encoded")]
    Encode(#[from] bincode::error::EncodeError),
}

/// A row as a value.
pub(super) fn encode(row: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    bytes.extend(bincode::serde::encode_to_vec(row, CONFIG)?);
    Ok(bytes)
}

/// A value as a row.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&VERSION, row)) => decode_row(row),
        Some((&other, _)) => Err(CodecError::Version(other)),
        None => Err(CodecError::Damaged("it is empty")),
    }
}

fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (row, used) = bincode::serde::decode_from_slice(bytes, CONFIG)?;
    if used == bytes.len() { Ok(row) } else { Err(CodecError::Damaged("it is longer than its row")) }
}

/// A payload with its header, sealed.
pub(super) fn seal(header: &impl Serialize, body: &str) -> Result<Vec<u8>, CodecError> {
    let header = bincode::serde::encode_to_vec(header, CONFIG)?;
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| CodecError::Damaged("it is too long"));
    let mut sealed = Vec::with_capacity(PREFIX + header.len() + body.len() + CRC);
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&length(header.len())?.to_le_bytes());
    sealed.extend_from_slice(&length(body.len())?.to_le_bytes());
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(body.as_bytes());
    sealed.extend_from_slice(&crc32fast::hash(&sealed).to_le_bytes());
    Ok(sealed)
}

/// The header and the body of a sealed payload, verified.
pub(super) fn unseal<T: DeserializeOwned>(sealed: &[u8]) -> Result<(T, &str), CodecError> {
    let (content, crc) = sealed.split_last_chunk::<CRC>().ok_or(CodecError::Damaged("it is too short"))?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return Err(CodecError::Damaged("its checksum is wrong"));
    }
    let (prefix, rest) =
        content.split_first_chunk::<PREFIX>().ok_or(CodecError::Damaged("it is too short"))?;
    let (magic, lengths) = prefix.split_at(MAGIC.len());
    let header_length = lengths.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
    if magic != MAGIC || header_length > rest.len() {
        return Err(CodecError::Damaged("it is no payload"));
    }
    let (header, body) = rest.split_at(header_length);
    let body = std::str::from_utf8(body).map_err(|_| CodecError::Damaged("it is no text"))?;
    Ok((decode_row(header)?, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_come_back_and_other_versions_are_named() {
        let row = (7u64, "key".to_owned(), Some(3u8));
        let mut bytes = encode(&row).unwrap();
        assert_eq!(decode::<(u64, String, Option<u8>)>(&bytes).unwrap(), row);
        bytes.push(0);
        assert!(matches!(decode::<(u64, String, Option<u8>)>(&bytes), Err(CodecError::Damaged(_))));
        bytes[0] = 9;
        assert!(matches!(decode::<(u64, String, Option<u8>)>(&bytes), Err(CodecError::Version(9))));
        assert!(matches!(decode::<u8>(&[]), Err(CodecError::Damaged(_))));
    }

    #[test]
    fn the_bytes_on_disk_stay_the_same() {
        assert_eq!(encode(&(300u64, "ab".to_owned(), None::<u8>)).unwrap(), b"\x01\xfb\x2c\x01\x02ab\x00");
        let sealed = seal(&(1u8, 2u8), "{}").unwrap();
        assert_eq!(sealed[..16], *b"fsr1\x02\0\0\0\x02\0\0\0\x01\x02{}");
    }

    proptest! {
        #[test]
        fn a_payload_comes_back_and_no_flipped_bit_goes_unseen(
            body in ".{0,200}", byte: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut sealed = seal(&(5u64, "type".to_owned()), &body).unwrap();
            let (header, read): ((u64, String), &str) = unseal(&sealed).unwrap();
            prop_assert_eq!((header, read), ((5, "type".to_owned()), body.as_str()));
            let at = byte.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(unseal::<(u64, String)>(&sealed).is_err());
        }

        #[test]
        fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(unseal::<(u64, String)>(&bytes).is_err());
        }
    }
}
