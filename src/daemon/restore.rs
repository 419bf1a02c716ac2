//! Restores what the previous run saved in the store. No record depends on it: a note that cannot be decoded was written
//! by another version, and is replaced with an empty one after a warning.

use crate::actors::alert_monitor::AlertNotes;
use crate::ipc::web;
use crate::model::{Backlog, OpenBatch};
use crate::policy::alerts::{restarts, restored};
use crate::policy::learned::{self, Learned};
use crate::store::{Queue, StoreError};
use crate::telemetry::history::{self, History};
use crate::telemetry::measurements::{self, Measurements};

/// What the previous run saved.
pub(super) struct RestoredState {
    pub(super) measurements: Measurements,
    pub(super) history: History,
    /// By which open pages recognise the daemon.
    pub(super) page_secret: Option<Vec<u8>>,
    /// The starts of the last day and the active alerts, encoded.
    pub(super) alerts: AlertNotes,
    pub(super) learned: Learned,
    pub(super) open_batches: Vec<OpenBatch>,
    pub(super) backlog: Backlog,
}

pub(super) fn restore_state(queue: &mut Queue) -> Result<RestoredState, StoreError> {
    let open_batches = queue.open_batches();
    let learned = queue.read_note(learned::NOTE_NAME)?.map(|note| Learned::from_note(&note));
    let learned = learned.transpose().unwrap_or_else(|error| {
        tracing::warn!(%error, "what was learned about the server cannot be decoded and is learned again");
        None
    });
    Ok(RestoredState {
        measurements: Measurements::restore(queue.read_notes(measurements::NOTES_PREFIX)?),
        history: History::restore(queue.read_note(history::NOTE_NAME)?.as_deref(), &open_batches),
        page_secret: queue.read_note(web::identity::SECRET_NOTE)?,
        alerts: AlertNotes {
            starts: queue.read_note(restarts::NOTE_NAME)?,
            active: queue.read_note(restored::NOTE_NAME)?,
        },
        learned: learned.unwrap_or_default(),
        open_batches,
        backlog: queue.read_backlog()?,
    })
}
