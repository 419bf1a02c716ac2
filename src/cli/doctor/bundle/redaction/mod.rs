//! Redaction: no secret, no key of a record and no word of a payload may be in the bundle.
//!
//! Three rules work together. Documents of the daemon are redacted by their structure (`document.rs`): messages of the
//! server, payloads and receipts are left out, and keys are replaced by hashes. Secrets that this user can read, and
//! messages that the daemon reports, are masked wherever they stand in a text, and keys in free texts (`text.rs`). What
//! looks like a secret is masked by patterns, for secrets that nobody could look up (`patterns.rs`).

pub(super) mod document;
pub(super) mod field_names;
pub(super) mod key_hash;
mod key_search;
pub(super) mod known_secrets;
mod patterns;
mod quoted;
mod spans;
pub(super) mod text;
