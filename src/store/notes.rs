//! Data besides the records: whether the daemon is paused, notes of other components, and notes of damage.

use std::borrow::Cow;
use std::collections::BTreeMap;

use redb::Table;

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
    fn write_to(&self, meta: &mut Table<'_, &'static str, &'static [u8]>) -> Result<(), StoreError> {
        match &self.note {
            Some(note) => drop(meta.insert(&*self.name, note.as_slice())?),
            None => drop(meta.remove(&*self.name)?),
        }
        Ok(())
    }
}

/// Changes of notes that wait for a commit, the newest of each name.
///
/// On a disk that is low on space they keep waiting, because records come first: notes never count against the space for
/// new records.
#[derive(Default)]
pub struct WaitingNotes {
    notes: BTreeMap<Cow<'static, str>, NoteChange>,
    is_applied: bool,
}

impl WaitingNotes {
    /// Replaces an earlier change of the same note. Beyond a number of names, the change is dropped.
    pub fn add_change(&mut self, change: NoteChange) {
        if self.notes.len() < NOTES_MAX || self.notes.contains_key(&change.name) {
            self.notes.insert(change.name.clone(), change);
        } else {
            tracing::debug!(name = %change.name, "a note was not saved: too many wait for a commit");
        }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Adds them to a transaction that is committed anyway.
    pub fn join_transaction(&mut self, transaction: &mut Transaction<'_, '_>) -> Result<(), StoreError> {
        self.is_applied = false;
        if transaction.is_disk_low {
            return Ok(());
        }
        self.write_to(&mut transaction.tables.meta)
    }

    pub(super) fn write_to(
        &mut self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), StoreError> {
        for change in self.notes.values() {
            change.write_to(meta)?;
        }
        self.is_applied = true;
        Ok(())
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
