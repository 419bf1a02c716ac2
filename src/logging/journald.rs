//! Entries in the journal, in journald's own protocol: fields of ours beside the usual ones, and an id where the
//! message has one.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::sender::Sender;
use crate::hidden::replace_hidden;
use crate::journal::MESSAGES;
use fieldsync_core::stderr_log::syslog_priority;

/// Event fields become `FIELDSYNC_BATCH_ID=…` in the journal.
const FIELD_PREFIX: &str = "FIELDSYNC_";
const IDENTIFIER: &str = "fieldsyncd";
/// A longer value is cut: a datagram has room for some of this size.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// The journal.
pub(super) struct Journald {
    ids: BTreeSet<&'static str>,
    sender: &'static Sender,
}

impl Journald {
    /// An error where there is none, or one that does not read.
    pub(super) fn find() -> io::Result<Self> {
        Ok(Self { ids: MESSAGES.iter().map(|(_, id)| *id).collect(), sender: Sender::connect()? })
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::new(*metadata.level());
        if let Some(id) = self.ids.get(metadata.name()) {
            entry.put("MESSAGE_ID", id);
        }
        entry.put("TARGET", metadata.target());
        if let Some(file) = metadata.file() {
            entry.put("CODE_FILE", file);
        }
        if let Some(line) = metadata.line() {
            entry.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        self.sender.send(entry.0);
    }
}

/// One entry as journald takes it: each field as its name, the length of its value, and the value.
pub(super) struct Entry(Vec<u8>);

impl Entry {
    fn new(level: Level) -> Self {
        let mut entry = Self(Vec::with_capacity(512));
        entry.put("PRIORITY", &syslog_priority(level).to_string());
        entry.put("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry
    }

    /// An entry that is a message alone.
    pub(super) fn plain(level: Level, message: &str) -> Vec<u8> {
        let mut entry = Self::new(level);
        entry.put("MESSAGE", message);
        entry.0
    }

    fn put(&mut self, name: &str, value: &str) {
        let value = replace_hidden(value);
        let value = value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or(&value).as_bytes();
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&journal_name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // This fails only where the value itself fails.
        if write!(text, "{value:?}").is_ok() {
            self.put(&journal_name(field.name()), &text);
        }
    }
}

/// Names in the journal have capitals, digits and `_` alone.
fn journal_name(field: &str) -> String {
    let prefix = if field == "message" { "" } else { FIELD_PREFIX };
    let name = field.trim_start_matches('_').chars().filter_map(|letter| match letter {
        '.' | '_' => Some('_'),
        letter => letter.is_ascii_alphanumeric().then(|| letter.to_ascii_uppercase()),
    });
    prefix.chars().chain(name).collect()
}
