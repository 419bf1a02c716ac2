//! Data besides the records: whether the daemon is paused, notes of other components, and notes of damage.

use super::codec;
use super::error::StoreError;
use super::op::{Op, Transaction};
use super::schema::meta;
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
