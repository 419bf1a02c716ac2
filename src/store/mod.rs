//! The durable queue, on redb.
//!
//! # Constraints
//!
//! - A record that was acknowledged survives a power cut at any moment.
//! - What is in flight is on disk before its first byte is sent, under its id and sequence.
//! - Memory does not follow the backlog; a status never scans.
//! - Flash wears: a lone commit costs about 50 KB of writes, so work is gathered into one commit.
//!
//! # Layout
//!
//! | table | key → value | holds |
//! |---|---|---|
//! | `payload` | place → sealed header and body | records that are not settled, and quarantined ones; written once |
//! | `manifest` | record id → state, attempts, last error, digest | every record until its receipt is pruned |
//! | `batches` | batch id → members, sequence, attempt, parent | open batches: the durable claim on their members |
//! | `retry` | (due, place) | FAILED records that wait for a time, outside of batches |
//! | `quarantine` | place → record id | records under review |
//! | `receipts` | place → record id, when | SYNCED records, for `keep_synced` |
//! | `holds` | (key, place) | records outside of batches that were in one, and hold back later ones of their key: FAILED, under review, or PENDING again |
//! | `meta` | name → value | schema version, device id, counters, notes of other rooms |
//!
//! A *place* orders the queue: priority, then arrival ([`crate::model::Place`]). Fresh records are
//! found by walking `payload` from a cursor in memory, so that no index over all waiting
//! records is kept: each tree that an append touches costs 12 KB of flash.
//!
//! # Guarantees, and how they are kept
//!
//! - *Acknowledged means kept*: the reply to an append follows the commit (redb, one phase, one
//!   fdatasync) that covers it. Whatever arrives while a commit runs goes into the next one together.
//! - *One batch at most*: a record is claimed by the row of the batch that names it, in the same
//!   transaction that closes the batch before. A claim costs no commit of its own, and no write per record.
//!   SYNCING is not stored: a record is SYNCING while a row in flight names it.
//! - *A crash keeps batch id, sequence and members*: they are the row.
//! - *Counts are true*: they change in the transaction that changes what they count.
//! - *Order in a key*: a record is not claimed while an earlier one of its key is in another open
//!   batch, failed, or under review.
//! - *A cut while the file is made leaves none*: it is made under another name, synced and renamed.
//!
//! After an error of redb the database object is dead and the outcome of the commit unknown: the
//! process ends and recovers at its next start, and clients repeat under the same record ids.

mod append;
mod batches;
mod claim;
mod codec;
mod holds;
mod queue;
mod read;
mod recovery;
mod review;
mod schema;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use append::{Append, AppendRefused, Appended};
pub use batches::{Dispatch, Settle, Settled};
pub use claim::Claim;
pub use queue::{Limits, Op, Queue, Transaction};
pub use read::{Filter, Page};
pub use recovery::OpenError;
pub use review::{Expedite, Mend, MendRefused, Pause, Remember, Review, ReviewAction, Selected};

/// An operation of the store failed. Its outcome is unknown until the store is opened again.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A value does not read.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    /// redb failed.
    #[error("the store failed: {0}")]
    Redb(#[from] redb::Error),
    /// A row names another that is not there.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// The store is closed, or on its way there.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Redb(redb::Error::Io(error))
            if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);
