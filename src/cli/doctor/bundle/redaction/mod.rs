//! Redaction: no secret, no key of a record and no word of a payload may be in the bundle.
//!
//! Three rules work together. Documents of the daemon are redacted by their structure (`document.rs`): messages of the
//! server, payloads and receipts are left out, and keys are replaced by hashes. Secrets that this user can read, and the
//! keys and messages that the daemon reports, are then replaced wherever they stand in a text (`text.rs`). Last, what
//! looks like a secret is masked by patterns, for secrets that nobody could look up.

pub(super) mod document;
pub(super) mod key_hash;
pub(super) mod known_secrets;
pub(super) mod text;
