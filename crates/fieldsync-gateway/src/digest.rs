//! SHA-256 of bodies, records and tokens.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

pub(crate) type Sha256Digest = [u8; SHA256_OUTPUT_LEN];

pub(crate) fn sha256(bytes: &[u8]) -> Sha256Digest {
    sha256_of_parts(&[bytes])
}

/// The digest of the parts, one after the other.
pub(crate) fn sha256_of_parts(parts: &[&[u8]]) -> Sha256Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut digest = Sha256Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
