//! Sends events to journald, each with the id of its message if it has one.

use std::collections::BTreeSet;
use std::io;

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::journal_entry::JournalEntry;
use super::journal_sender::JournalSender;
use crate::journal::MESSAGES;

/// The layer of tracing that writes to the journal.
pub(super) struct Journald {
    message_ids: BTreeSet<&'static str>,
    sender: &'static JournalSender,
}

impl Journald {
    /// Fails if there is no journald, or if it does not read from its socket.
    pub(super) fn connect() -> io::Result<Self> {
        let message_ids = MESSAGES.iter().map(|(_, id)| *id).collect();
        Ok(Self { message_ids, sender: JournalSender::connect()? })
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = JournalEntry::new(*metadata.level());
        if let Some(id) = self.message_ids.get(metadata.name()) {
            entry.put_field("MESSAGE_ID", id);
        }
        entry.put_field("TARGET", metadata.target());
        if let Some(file) = metadata.file() {
            entry.put_field("CODE_FILE", file);
        }
        if let Some(line) = metadata.line() {
            entry.put_field("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        self.sender.send(entry.into_bytes());
    }
}
