//! Data besides the records: whether the daemon is paused, notes of other components, and notes of damage.

use super::codec;
use super::error::StoreError;
use super::op::{Op, Transaction};
use super::schema::meta;
use crate::model::Damage;

/// Pauses or resumes the daemon. Survives a restart.
pub struct SetPaused(pub bool);

impl Op for SetPaused {
    type Reply = ();

    fn apply(&self, transaction: &mut Transaction<'_, '_>) -> Result<Self::Reply, StoreError> {
        if self.0 {
            transaction.tables.meta.insert(meta::PAUSED_KEY, codec::encode_row(&true)?.as_slice())?;
        } else {
            transaction.tables.meta.remove(meta::PAUSED_KEY)?;
        }
        transaction.state.paused = self.0;
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
