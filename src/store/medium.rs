//! Where the store's files are: a directory in the daemon, a simulated disk in tests.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise, posix_fallocate};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use redb::{Builder, Database, DatabaseError, StorageError};
use rustix::fs::fstatvfs;

use super::error::OpenError;
use super::error::StoreError;
use crate::clock::{rfc3339, wall_ms};

/// A smaller file is not worth compacting.
pub(super) const SMALL_FILE_BYTES: u64 = 8 << 20;

pub(super) const DATABASE_FILE: &str = "queue.redb";
const NEW_DATABASE_FILE: &str = "queue.redb.new";
const LOCK_FILE: &str = "lock";
const RESERVE_FILE: &str = "reserve";
const DAMAGED_FILE_PREFIX: &str = "queue.redb.damaged-";
const MARKER_FILE: &str = "queue.redb.suspect";
/// With a lower limit on the size of files, a full database may be too small to be compacted and would stay full.
const FILE_LIMIT_BYTES_MIN: u64 = 4 * SMALL_FILE_BYTES;

/// Where the store's files are.
pub(super) trait Medium: Send {
    /// Whether there is a database.
    fn has_database(&self) -> io::Result<bool>;
    /// Creates a database, completely or not at all. Replaces an existing one.
    fn create_database(
        &mut self,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError>;
    /// Where to keep a damaged database; none if the medium keeps none.
    fn damaged_copy_path(&self) -> Option<PathBuf> {
        None
    }
    /// As [`Medium::create_database`], but keeps the old database at `kept`. Either the old or the new one is in
    /// place at any moment.
    fn replace_database(
        &mut self,
        _kept: &Path,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError> {
        self.create_database(builder, fill)
    }
    /// Opens the database after dropping its page cache: after a failed sync, the cache may differ from the disk.
    fn open_database(&self, builder: &mut Builder) -> Result<Database, DatabaseError>;
    /// Whether the opened database still has its name. What is written to a file without a name is lost when the
    /// process ends.
    fn is_in_place(&self) -> bool;
    /// Bytes that can still be written, if the system tells.
    fn free_bytes(&self) -> Option<u64>;
    /// Size of the disk in bytes, if the system tells.
    fn capacity_bytes(&self) -> Option<u64> {
        None
    }
    /// Size of the reserve in bytes.
    fn reserve_bytes(&self) -> u64;
    /// Sets the size of the reserve.
    fn set_reserve(&mut self, bytes: u64) -> io::Result<()>;
    /// Bytes that the database occupies on disk.
    fn database_bytes(&self) -> io::Result<u64>;
    /// The marker file. If it exists, the next start checks the whole store.
    fn marker_path(&self) -> PathBuf;
    /// The path for messages.
    fn display_path(&self) -> PathBuf;
}

/// Whether a daemon uses the state directory. Changes nothing. If a daemon starts at the same moment, it may find the
/// directory in use, and systemd starts it again.
pub fn is_state_dir_in_use(state_dir: &Path) -> io::Result<bool> {
    let lock = match File::open(state_dir.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        lock => lock?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The store's directory, locked while this value exists.
pub(super) struct Directory {
    path: PathBuf,
    /// Size of the reserve in bytes.
    reserved: u64,
    lock: File,
    /// The opened database. Keeps its inode number from being reused.
    opened: RefCell<Option<File>>,
}

impl Directory {
    /// Creates the directory if necessary, and locks it.
    pub(super) fn lock_directory(path: &Path) -> Result<Self, OpenError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(OpenError::io(path))?;
        if let Some(limit) = file_size_limit().filter(|limit| *limit < FILE_LIMIT_BYTES_MIN) {
            return Err(OpenError::io(path)(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "files may have at most {limit} bytes (ulimit -f, LimitFSIZE=), and the queue needs at least {FILE_LIMIT_BYTES_MIN}"
                ),
            )));
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = private_file_options()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(OpenError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {
                let reserved = fs::metadata(path.join(RESERVE_FILE)).map_or(0, |file| file.len());
                Ok(Self { path: path.to_owned(), reserved, lock, opened: RefCell::default() })
            }
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path: lock_path, source }),
        }
    }

    fn database_path(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// How much the database may still grow under a limit on the size of files. redb doubles the file when it grows:
    /// once that would exceed the limit, only its unused part is left.
    fn room_below_file_limit(&self) -> Option<u64> {
        let limit = file_size_limit()?;
        let file = fs::metadata(self.database_path()).ok()?;
        let may_grow = file.len().saturating_mul(2) <= limit;
        let left = if may_grow { limit - file.len() } else { file.len().saturating_sub(file.blocks() * 512) };
        Some(left)
    }

    /// Builds a complete database under another name and syncs it. A power cut leaves at most a file of that name,
    /// which the next start overwrites.
    fn build_new_database(
        &self,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError> {
        let new = self.path.join(NEW_DATABASE_FILE);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io(&new)(error)),
            _ => {}
        }
        private_file_options().create_new(true).open(&new).map_err(OpenError::io(&new))?;
        let failed = |source| OpenError::Store { path: new.clone(), source };
        let database = builder.create(&new).map_err(|error| failed(StoreError::from(error)))?;
        fill(&database).map_err(failed)?;
        drop(database);
        File::open(&new).and_then(|file| file.sync_all()).map_err(OpenError::io(&new))
    }

    fn install_new_database(&self) -> Result<(), OpenError> {
        let new = self.path.join(NEW_DATABASE_FILE);
        fs::rename(&new, self.database_path()).map_err(OpenError::io(&new))?;
        self.sync_directory().map_err(OpenError::io(&self.path))
    }

    /// Damaged databases that were kept.
    fn damaged_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let damaged =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DAMAGED_FILE_PREFIX));
        damaged.map(|entry| entry.path()).collect()
    }
}

/// The limit on the size of files of this process (`RLIMIT_FSIZE`), if there is one.
#[allow(clippy::useless_conversion, reason = "it has 32 bits on 32-bit devices")]
fn file_size_limit() -> Option<u64> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
    (limit != RLIM_INFINITY).then_some(u64::from(limit))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes the next reads of a file come from the disk.
fn drop_page_cache(path: &Path) {
    let forgotten = File::open(path).map_err(drop).and_then(|file| {
        posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(drop)
    });
    if forgotten.is_err() {
        tracing::debug!("the page cache of the store cannot be dropped");
    }
}

impl Medium for Directory {
    fn has_database(&self) -> io::Result<bool> {
        let new = self.path.join(NEW_DATABASE_FILE);
        if !self.database_path().try_exists()? && new.try_exists()? && !self.damaged_files().is_empty() {
            fs::rename(new, self.database_path())?;
            self.sync_directory()?;
        }
        self.database_path().try_exists()
    }

    fn create_database(
        &mut self,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError> {
        self.build_new_database(builder, fill)?;
        self.install_new_database()
    }

    fn damaged_copy_path(&self) -> Option<PathBuf> {
        // An interrupted start may have kept the database already.
        if let Some(same) =
            self.damaged_files().into_iter().find(|kept| is_same_file(kept, &self.database_path()))
        {
            return Some(same);
        }
        let stamp: String = rfc3339(wall_ms()).chars().filter(char::is_ascii_alphanumeric).collect();
        let stamp = stamp.get(..15).unwrap_or(&stamp);
        let names = (1u32..).map(|number| match number {
            1 => self.path.join(format!("{DAMAGED_FILE_PREFIX}{stamp}Z")),
            number => self.path.join(format!("{DAMAGED_FILE_PREFIX}{stamp}Z-{number}")),
        });
        names.into_iter().find(|name| !name.exists())
    }

    fn replace_database(
        &mut self,
        kept: &Path,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError> {
        if let Err(error) = self.build_new_database(builder, fill) {
            // Nothing was changed. Frees the space of the new file.
            drop(fs::remove_file(self.path.join(NEW_DATABASE_FILE)));
            return Err(error);
        }
        if !is_same_file(kept, &self.database_path())
            && let Err(error) = fs::hard_link(self.database_path(), kept)
        {
            // For file systems without hard links (FAT). After a power cut between the renames, the next start finds
            // the new database under its first name.
            tracing::debug!(%error, "the file system has no hard links: the damaged store is renamed");
            fs::rename(self.database_path(), kept).map_err(OpenError::io(kept))?;
        }
        self.sync_directory().map_err(OpenError::io(&self.path))?;
        self.install_new_database()
    }

    fn open_database(&self, builder: &mut Builder) -> Result<Database, DatabaseError> {
        // The process that created the file may have ended before its name was on disk. Without the name, everything
        // stored from now on would be lost.
        self.sync_directory().map_err(StorageError::Io)?;
        drop_page_cache(&self.database_path());
        let database = builder.open(self.database_path())?;
        self.opened.replace(Some(File::open(self.database_path()).map_err(StorageError::Io)?));
        Ok(database)
    }

    fn is_in_place(&self) -> bool {
        let opened = self.opened.borrow();
        let Some(opened) = opened.as_ref().map(File::metadata) else { return true };
        let identity = |file: io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino()));
        matches!((identity(opened), identity(fs::metadata(self.database_path()))), (Ok(one), Ok(other)) if one == other)
    }

    fn free_bytes(&self) -> Option<u64> {
        let room = fstatvfs(&self.lock).ok()?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        Some(self.room_below_file_limit().map_or(free, |left| left.min(free)))
    }

    fn capacity_bytes(&self) -> Option<u64> {
        let room = fstatvfs(&self.lock).ok()?;
        let capacity = room.f_blocks.saturating_mul(room.f_frsize);
        Some(file_size_limit().map_or(capacity, |limit| limit.min(capacity)))
    }

    fn reserve_bytes(&self) -> u64 {
        self.reserved
    }

    fn set_reserve(&mut self, bytes: u64) -> io::Result<()> {
        // On a 32-bit device, at most 2 GiB can be allocated.
        let length = libc::off_t::try_from(bytes).unwrap_or(libc::off_t::MAX);
        let path = self.path.join(RESERVE_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.reserved = 0;
        if bytes == 0 {
            return Ok(());
        }
        let file = private_file_options().create_new(true).open(&path)?;
        if let Err(error) = posix_fallocate(&file, 0, length) {
            drop(file);
            fs::remove_file(&path)?;
            return Err(error.into());
        }
        self.reserved = bytes;
        Ok(())
    }

    fn database_bytes(&self) -> io::Result<u64> {
        Ok(fs::metadata(self.database_path())?.blocks() * 512)
    }

    fn marker_path(&self) -> PathBuf {
        self.path.join(MARKER_FILE)
    }

    fn display_path(&self) -> PathBuf {
        self.database_path()
    }
}
