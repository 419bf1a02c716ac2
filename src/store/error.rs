//! Why the store cannot be opened, and why an operation on it failed.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::codec::CodecError;

/// An operation of the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A value cannot be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// redb failed.
    #[error("the store failed: {0}")]
    Redb(#[from] redb::Error),
    /// redb panicked over what it read.
    #[error("the store is damaged: {0}")]
    Panicked(String),
    /// A row refers to another row that does not exist.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// It cannot be opened again after an error.
    #[error(transparent)]
    Open(#[from] Box<OpenError>),
    /// The disk has no room, not even to settle records that are being sent.
    #[error("the disk is full: nothing was stored; try again when there is room")]
    NoRoom,
    /// The disk gives errors: no operation is accepted until it can be written again.
    #[error(
        "the disk under the queue gives errors: no records are accepted or sent; accepted records are kept"
    )]
    Failing,
    /// The file is not where it was opened.
    #[error(
        "{} was deleted, moved or replaced while the daemon used it: no records are accepted or sent. Accepted records \
         are only in that file: put it back, or restart the daemon to continue with the file that is there now",
        .0.display()
    )]
    FileGone(PathBuf),
    /// The store is closed, or is closing.
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

    /// Whether the bytes could be read but make no sense. An I/O error of the operating system says nothing about
    /// the bytes.
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

/// Why the store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another daemon uses it.
    #[error("another daemon uses the state directory {}; stop it first, or give this one its own queue.state_dir", .0.display())]
    InUse(PathBuf),
    /// The directory or the file cannot be used.
    #[error("cannot use {}: {source}. Nothing was changed; its records are still there", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A newer version wrote it.
    #[error("{} has schema version {found}, this program knows {known}: install the newer version again. Nothing was changed", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u32,
        /// The newest version that this program can read.
        known: u32,
    },
    /// It cannot be read.
    #[error("the store {} cannot be read: {source}. Nothing was changed; keep the file, it may hold records", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: StoreError,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Whether the bytes could be read but make no sense.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_damage())
    }

    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_disk_full())
    }
}
