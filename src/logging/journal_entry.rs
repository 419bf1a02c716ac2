//! One entry in journald's native protocol: each field as its name, the length of its value, and the value.

use std::fmt::{Debug, Write as _};
use std::sync::{PoisonError, RwLock};

use tracing::Level;
use tracing::field::{Field, Visit};

use crate::hidden::replace_hidden;
use fieldsync_core::stderr_log::syslog_priority;

/// Event fields become `FIELDSYNC_BATCH_ID=…` in the journal.
const FIELD_PREFIX: &str = "FIELDSYNC_";
const IDENTIFIER: &str = "fieldsyncd";
/// A longer value is cut, so that a datagram has room for several.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// Id and name of this device, once they are known.
static DEVICE: RwLock<Option<(String, String)>> = RwLock::new(None);

/// From now on, every entry names the device.
pub(super) fn set_device(id: &str, name: &str) {
    let mut device = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    *device = Some((id.to_owned(), name.to_owned()));
}

pub(super) struct JournalEntry(Vec<u8>);

impl JournalEntry {
    pub(super) fn new(level: Level) -> Self {
        let mut entry = Self(Vec::with_capacity(512));
        entry.put_field("PRIORITY", &syslog_priority(level).to_string());
        entry.put_field("SYSLOG_IDENTIFIER", IDENTIFIER);
        if let Some((id, name)) = &*DEVICE.read().unwrap_or_else(PoisonError::into_inner) {
            entry.put_field("FIELDSYNC_DEVICE_ID", id);
            entry.put_field("FIELDSYNC_DEVICE_NAME", name);
        }
        entry
    }

    pub(super) fn with_message(level: Level, message: &str) -> Self {
        let mut entry = Self::new(level);
        entry.put_field("MESSAGE", message);
        entry
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn put_field(&mut self, name: &str, value: &str) {
        let value = replace_hidden(value);
        let value = value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or(&value).as_bytes();
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

impl Visit for JournalEntry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_field(&journal_name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // This fails only if the formatting of the value fails.
        if write!(text, "{value:?}").is_ok() {
            self.put_field(&journal_name(field.name()), &text);
        }
    }
}

/// Names of journal fields consist of capitals, digits and `_`.
fn journal_name(field: &str) -> String {
    let prefix = if field == "message" { "" } else { FIELD_PREFIX };
    let name = field.trim_start_matches('_').chars().filter_map(|letter| match letter {
        '.' | '_' => Some('_'),
        letter => letter.is_ascii_alphanumeric().then(|| letter.to_ascii_uppercase()),
    });
    prefix.chars().chain(name).collect()
}
