//! The records for all contestants, and the form in which the others store them.

use fieldsync::model::RecordId;
use ring::digest::{SHA256, digest};

pub(crate) const RECORD_TYPE: &str = "Visits";
/// The usual size of a CRM record.
const PAYLOAD_BYTES: usize = 1024;

/// A record as an application submits it.
pub(crate) struct Record {
    pub(crate) id: RecordId,
    pub(crate) payload: Box<str>,
}

impl Record {
    pub(crate) fn new() -> Self {
        let id = RecordId::new();
        let head = format!(r#"{{"visit":"{id}","note":""#);
        let note = ".".repeat(PAYLOAD_BYTES - head.len() - 2);
        Self { id, payload: format!(r#"{head}{note}"}}"#).into() }
    }

    pub(crate) fn new_batch(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::new()).collect()
    }

    /// Header, body and checksum, sealed as in our store.
    pub(crate) fn seal_into(&self, now: u64, sealed: &mut Vec<u8>) {
        let start = sealed.len();
        sealed.extend_from_slice(b"fsr1");
        sealed.extend_from_slice(&(self.payload.len() as u64).to_le_bytes());
        sealed.extend_from_slice(self.id.0.as_bytes());
        sealed.extend_from_slice(RECORD_TYPE.as_bytes());
        sealed.extend_from_slice(&now.to_le_bytes());
        sealed.extend_from_slice(self.payload.as_bytes());
        let crc = crc32fast::hash(sealed.get(start..).unwrap_or_default());
        sealed.extend_from_slice(&crc.to_le_bytes());
    }

    /// Distinguishes a repeated record from another one with the same id. Our store computes it, too.
    pub(crate) fn payload_digest(&self) -> [u8; 16] {
        let whole = digest(&SHA256, self.payload.as_bytes());
        *whole.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
    }
}

/// `250`, `100k` or `5M`.
pub(crate) fn parse_count(text: &str) -> Result<usize, std::num::ParseIntError> {
    let (digits, unit) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    digits.parse::<usize>().map(|number| number * unit)
}
