//! Replaces keys of records by hashes: equal keys have equal hashes within a bundle, and the key cannot be found by
//! trying keys, or recognised in another bundle.

use std::fmt::Write as _;

use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::SystemRandom;

/// Bytes of a hash that are shown: enough to tell a million keys apart.
const HASH_BYTES: usize = 8;

/// The secret of one bundle, which is not stored.
pub(crate) struct KeyHasher(Key);

impl KeyHasher {
    /// Fails if the system provides no randomness.
    pub(crate) fn new() -> Option<Self> {
        Key::generate(HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// `key-0123456789abcdef`
    pub(crate) fn hash(&self, key: &str) -> String {
        let tag = sign(&self.0, key.as_bytes());
        let mut hash = "key-".to_owned();
        for byte in tag.as_ref().iter().take(HASH_BYTES) {
            // Writing to memory does not fail.
            write!(hash, "{byte:02x}").ok();
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_have_equal_hashes_in_one_bundle_only() {
        let (one, other) = (KeyHasher::new().unwrap(), KeyHasher::new().unwrap());
        assert_eq!(one.hash("Acme"), one.hash("Acme"));
        assert_ne!(one.hash("Acme"), one.hash("Acme2"));
        assert_ne!(one.hash("Acme"), other.hash("Acme"));
        assert_eq!(one.hash("Acme").len(), "key-0123456789abcdef".len());
    }
}
