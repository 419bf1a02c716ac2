//! Data besides the records: whether the daemon is paused, notes of other components, and notes of damage.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::codec;
use super::error::StoreError;
use super::op::{Op, Transaction};
use super::schema::{NOTES_MAX, meta};
use crate::model::{Damage, Pause};

/// Pauses the daemon, or with none resumes it. Survives a restart.
pub struct SetPaused(pub Option<Pause>);

impl Op for SetPaused {
    type Reply = ();

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        if let Some(pause) = &self.0 {
            let note = serde_json::to_vec(pause)
                .map_err(|_| StoreError::Inconsistent("a note of a pause cannot be encoded"))?;
            transaction.tables.meta.insert(meta::PAUSED_KEY, codec::encode_row(&true)?.as_slice())?;
            transaction.tables.meta.insert(meta::PAUSE_KEY, note.as_slice())?;
        } else {
            transaction.tables.meta.remove(meta::PAUSED_KEY)?;
            transaction.tables.meta.remove(meta::PAUSE_KEY)?;
        }
        (transaction.state.paused, transaction.state.pause) = (self.0.is_some(), self.0);
        Ok(())
    }
}

/// Saves a small note of another component under its name.
pub struct SaveNote {
    /// The name of the note.
    pub name: &'static str,
    /// Its content.
    pub note: Vec<u8>,
}

impl Op for SaveNote {
    type Reply = ();

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.tables.meta.insert(self.name, self.note.as_slice())?;
        Ok(())
    }
}

/// A change of a note that shares the next commit instead of causing one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteChange {
    /// The name of the note.
    pub name: Cow<'static, str>,
    /// Its content; none removes it.
    pub note: Option<Vec<u8>>,
}

impl NoteChange {
    pub(super) fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<(), StoreError> {
        match &self.note {
            Some(note) => drop(transaction.tables.meta.insert(&*self.name, note.as_slice())?),
            None => drop(transaction.tables.meta.remove(&*self.name)?),
        }
        Ok(())
    }
}

/// Changes of notes that wait for a commit, the newest of each name.
///
/// On a disk that is low on space they keep waiting, because records come first.
#[derive(Default)]
pub struct WaitingNotes {
    notes: BTreeMap<Cow<'static, str>, NoteChange>,
    is_due: bool,
    is_applied: bool,
}

impl WaitingNotes {
    /// Replaces an earlier change of the same note. Beyond [`NOTES_MAX`] names, the change is dropped.
    pub fn add_change(&mut self, change: NoteChange) {
        if self.notes.len() < NOTES_MAX || self.notes.contains_key(&change.name) {
            self.notes.insert(change.name.clone(), change);
        } else {
            tracing::debug!(name = %change.name, "a note was not saved: too many wait for a commit");
        }
    }

    /// From now on, they are worth a commit of their own.
    pub fn set_due(&mut self) {
        self.is_due = !self.notes.is_empty();
    }

    /// Whether they are worth a commit of their own.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// Bytes that they add, approximately.
    pub fn added_bytes(&self) -> u64 {
        self.notes.values().map(|change| change.note.as_ref().map_or(0, |note| note.len() as u64)).sum()
    }

    /// Adds them to a transaction, if it has changes or they are due. Returns whether there is anything to commit.
    pub fn join_transaction(
        &mut self,
        transaction: &mut Transaction<'_, '_>,
        has_changes: bool,
    ) -> Result<bool, StoreError> {
        self.is_applied =
            (has_changes || self.is_due) && transaction.admits_records && !self.notes.is_empty();
        if self.is_applied {
            for change in self.notes.values() {
                change.apply(transaction)?;
            }
        }
        Ok(has_changes || self.is_applied)
    }

    /// What still waits after an attempt to commit.
    #[must_use]
    pub fn after_commit(self, is_committed: bool) -> Self {
        if is_committed && self.is_applied { Self::default() } else { Self { is_applied: false, ..self } }
    }
}

/// Removes the notes of damage after someone has acknowledged them.
pub struct AcknowledgeDamage;

impl Op for AcknowledgeDamage {
    /// The removed notes.
    type Reply = Vec<Damage>;

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        transaction.tables.meta.remove(meta::DAMAGE_KEY)?;
        Ok(std::mem::take(&mut transaction.state.damage))
    }

    fn has_changes(reply: &Self::Reply) -> bool {
        !reply.is_empty()
    }
}
