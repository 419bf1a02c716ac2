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
//! | `chunks` | (place, index) → part of a body | what a body has beyond its page: redb rounds larger values up to powers of two |
//! | `manifest` | record id → state, attempts, last error, digest | every record until its receipt is pruned; finds doubles, too |
//! | `batches` | batch id → members, sequence, attempt, parent | open batches: the durable claim on their members |
//! | `retry` | (due, place) | FAILED records that wait for a time, outside of batches |
//! | `quarantine` | place → record id | records under review |
//! | `receipts` | place → record id, when | SYNCED records, for `keep_synced`, or until the disk has little room |
//! | `owned_lanes` | (owner, key, seq) → place | unsettled records with a key, in the order in which they go |
//! | `meta` | name → value | schema version, device id, counters, notes of other rooms |
//!
//! A *place* orders the queue: priority, then arrival ([`crate::model::Place`]). Fresh records are
//! found by walking `payload` from a cursor in memory, so that no index over all waiting
//! records is kept: each tree that a lone append touches costs 12 KB of flash. For the same reason
//! SYNCING is not stored, a claim rides on the commit that settles the batch before, and only records
//! with a key pay for the order of keys.
//!
//! # Guarantees, and how they are kept
//!
//! - *Acknowledged means kept*: the reply to an append follows the commit (redb, one phase, one
//!   fdatasync) that covers it. Whatever arrives while a commit runs goes into the next one together.
//! - *One batch at most*: a record is claimed by the row of the batch that names it, in the same
//!   transaction that closes the batch before. A record is SYNCING while a row in flight names it.
//! - *A crash keeps batch id, sequence and members*: they are the row.
//! - *Counts are true*: they change in the transaction that changes what they count.
//! - *Order in a key*: a record goes with those before it in its lane, or after them (`lanes.rs`). A user's
//!   records wait for no other user's, unless `queue.shared_keys` says so (`key_space.rs`).
//! - *Waits end in time*: due times are of a clock that never goes back ([`crate::clock::Steady`]).
//! - *A cut while the file is made leaves none*: it is made under another name, synced and renamed.
//! - *A start after a crash in idle is quick*: an idle queue ends with a commit that stores redb's
//!   allocator state. It costs too much to do it in every commit; after a crash in the middle of
//!   work redb walks all live pages.
//!
//! # When the disk fails
//!
//! After an error the database object is dead and the commit's outcome unknown: the file is opened
//! anew, without what the system had cached of it, and the commit's number tells whether it took
//! place. A commit is acknowledged only if the file is still under its name afterwards; a running daemon never
//! recreates a file that was deleted or moved. `space.rs` keeps a full disk from stopping what is on its way. A value that does not read
//! is never believed: each carries a checksum, for redb's reads verify nothing. A record whose body is
//! damaged is set aside for review. Whatever is worse is for the next start (`salvage/`): it keeps
//! the damaged file under another name, goes on with what reads of it in a new one, and keeps a note
//! of it until somebody acknowledges it.

mod append;
mod batches;
mod body;
mod claim;
mod codec;
mod contain;
mod disk_use;
#[cfg(fuzzing)]
pub mod fuzzing;
mod key_space;
mod lanes;
mod limits;
mod medium;
mod members;
mod migration;
mod op;
mod open;
mod queue;
mod read;
mod receipts;
mod recovery;
mod review;
mod salvage;
mod schema;
mod shared;
mod space;
mod state;
mod submitters;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use append::{Append, AppendRefused, Appended};
pub use batches::{Dispatch, Settle, Settled};
pub use claim::Claim;
pub use contain::panic_is_contained;
pub use key_space::KeySpace;
pub use limits::{LimitReached, Limits};
pub use medium::is_in_use;
pub use op::{Group, One, Op, Transaction};
pub use queue::Queue;
pub use read::{Filter, Page, StoreReader, StoreView};
pub use recovery::{OpenError, Progress};
pub use review::{
    Acknowledge, AddRefused, AddToReview, AddedToReview, Expedite, Mend, MendRefused, Pause, REVIEW_STEP,
    Remember, Review, ReviewAction, Reviewed, Selected, SetAside,
};
pub use salvage::{Salvage, SalvageError};

/// An operation of the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A value does not read.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    /// redb failed.
    #[error("the store failed: {0}")]
    Redb(#[from] redb::Error),
    /// redb panicked over what it read.
    #[error("the store is damaged: {0}")]
    Panicked(String),
    /// A row names another that is not there.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// It cannot be opened again after an error.
    #[error(transparent)]
    Open(#[from] Box<OpenError>),
    /// The disk has no room, not even for what is on its way.
    #[error("the disk is full: nothing was stored; try again when there is room")]
    NoRoom,
    /// The disk gives errors: nothing is done until it can be written again.
    #[error(
        "the disk under the queue gives errors: no records are taken in and none are sent; those that were accepted are kept"
    )]
    Failing,
    /// The file is not where it was opened.
    #[error(
        "{} was deleted, moved or replaced while the daemon used it: no records are taken in and none are sent, \
         and those that were accepted are in that file alone; put it back, or start the daemon again to \
         continue with what is there now", .0.display()
    )]
    FileGone(std::path::PathBuf),
    /// The store is closed, or on its way there.
    #[error("the store is closed")]
    Closed,
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}

impl StoreError {
    /// Whether the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match self {
            Self::Redb(redb::Error::Io(error)) => {
                matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
            }
            Self::Open(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// Whether the bytes are there and make no sense. What the system calls an error of its own
    /// is none of the bytes.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Codec(_) | Self::Panicked(_) | Self::Inconsistent(_) => true,
            Self::Redb(redb::Error::Io(error)) => error.raw_os_error().is_none(),
            Self::Redb(error) => !matches!(error, redb::Error::PreviousIo | redb::Error::DatabaseClosed),
            Self::Open(error) => error.is_damage(),
            Self::NoRoom | Self::Failing | Self::FileGone(_) | Self::Closed => false,
        }
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
    redb::DatabaseError,
    redb::CompactionError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);
