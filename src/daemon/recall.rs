//! What a former life left in the store, read once at the start. No record depends on the notes: one
//! that does not read was written by another version, and begins anew with a warning.

use crate::actors::telemetry;
use crate::ipc::web;
use crate::model::{Backlog, OpenBatch};
use crate::policy::learned::{self, Learned};
use crate::store::{Queue, StoreError};
use crate::telemetry::history::{self, History};

/// Everything that was left.
pub(super) struct Recalled {
    /// As telemetry wrote them.
    pub(super) measurements: Option<Vec<u8>>,
    pub(super) history: History,
    /// By which pages that are open know the daemon again.
    pub(super) page_secret: Option<Vec<u8>>,
    pub(super) learned: Learned,
    pub(super) open: Vec<OpenBatch>,
    pub(super) waiting: Backlog,
}

pub(super) fn recall(queue: &mut Queue) -> Result<Recalled, StoreError> {
    let open = queue.open_batches();
    let learned = queue.read_note(learned::NOTE)?.map(|note| Learned::from_note(&note));
    let learned = learned.transpose().unwrap_or_else(|error| {
        tracing::warn!(%error, "what was learned of the server does not read and is learned anew");
        None
    });
    Ok(Recalled {
        measurements: queue.read_note(telemetry::NOTE)?,
        history: History::resume(queue.read_note(history::NOTE)?.as_deref(), &open),
        page_secret: queue.read_note(web::identity::SECRET_NOTE)?,
        learned: learned.unwrap_or_default(),
        open,
        waiting: queue.read_backlog()?,
    })
}
