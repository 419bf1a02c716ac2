//! Where the store's bytes live: a directory for the daemon; a disk that fails on command for tests.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise, posix_fallocate};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statvfs::fstatvfs;
use redb::{Builder, Database, DatabaseError, StorageError};

use super::error::OpenError;
use super::error::StoreError;
use crate::clock::{rfc3339, wall_ms};

/// A file that is smaller is not worth compacting.
pub(super) const SMALL_FILE_BYTES: u64 = 8 << 20;

const DATABASE_FILE: &str = "queue.redb";
const NEW_DATABASE_FILE: &str = "queue.redb.new";
const LOCK_FILE: &str = "lock";
const RESERVE_FILE: &str = "reserve";
const DAMAGED_FILE_PREFIX: &str = "queue.redb.damaged-";
const MARKER_FILE: &str = "queue.redb.suspect";
/// A file that is held below this may be too small to be compacted when it is full, and would stay full for ever.
const FILE_LIMIT_BYTES_MIN: u64 = 4 * SMALL_FILE_BYTES;

/// Where the store's bytes live.
pub(super) trait Medium: Send {
    /// Whether there is a database.
    fn has_database(&self) -> io::Result<bool>;
    /// Makes a database, whole or not at all, in the place of one that may be there.
    fn create_database(
        &mut self,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError>;
    /// Where a damaged database would be kept; none on a medium that keeps none.
    fn damaged_copy_path(&self) -> Option<PathBuf> {
        None
    }
    /// As [`Medium::create`], and what was there is kept at `kept` from then on. At any moment either
    /// the one or the other is in place.
    fn replace_database(
        &mut self,
        _kept: &Path,
        builder: &mut Builder,
        fill: &mut dyn FnMut(&Database) -> Result<(), StoreError>,
    ) -> Result<(), OpenError> {
        self.create_database(builder, fill)
    }
    /// Opens the database; what the system caches of it is dropped first, for after a failed sync
    /// it may not be what is on the disk.
    fn open_database(&self, builder: &mut Builder) -> Result<Database, DatabaseError>;
    /// Whether the database that was opened is still the one under its name: what is written to
    /// another one is gone when the process ends.
    fn is_in_place(&self) -> bool;
    /// Bytes that may still be written, where the system says.
    fn free_bytes(&self) -> Option<u64>;
    /// Bytes of the whole disk, where the system says.
    fn capacity_bytes(&self) -> Option<u64> {
        None
    }
    /// Bytes that the reserve holds.
    fn reserve_bytes(&self) -> u64;
    /// Makes the reserve hold so many bytes.
    fn set_reserve(&mut self, bytes: u64) -> io::Result<()>;
    /// Bytes of disk that the database takes.
    fn database_bytes(&self) -> io::Result<u64>;
    /// The file that says that damage was met: the next start looks at everything.
    fn marker_path(&self) -> PathBuf;
    /// For messages.
    fn display_path(&self) -> PathBuf;
}

/// Whether a daemon has the state directory. Nothing is changed; a daemon that starts in this very moment may find the
/// directory in use, and is started again by systemd.
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

/// The store's directory. Held open with its lock for as long as this lives.
pub(super) struct Directory {
    path: PathBuf,
    /// Bytes of the reserve.
    reserved: u64,
    lock: File,
    /// The database that was opened. Held, so that no other file gets its number.
    opened: RefCell<Option<File>>,
}

impl Directory {
    /// Makes the directory where it is not there, and keeps others out of it.
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

    /// What the database may still take where the size of files is limited. It doubles when it grows: once that would
    /// pass the limit, there is only what it has never used.
    fn room_below_file_limit(&self) -> Option<u64> {
        let limit = file_size_limit()?;
        let file = fs::metadata(self.database_path()).ok()?;
        let may_grow = file.len().saturating_mul(2) <= limit;
        let left = if may_grow { limit - file.len() } else { file.len().saturating_sub(file.blocks() * 512) };
        Some(left)
    }

    /// Makes a database under another name, whole and on the disk. A cut in the making leaves a file
    /// of that name at most, which the next start overwrites.
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

    /// The databases that were set aside.
    fn damaged_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let damaged =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DAMAGED_FILE_PREFIX));
        damaged.map(|entry| entry.path()).collect()
    }
}

/// The longest that a file of this process may be (`RLIMIT_FSIZE`), where there is a limit.
fn file_size_limit() -> Option<u64> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
    (limit != RLIM_INFINITY).then_some(limit)
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

/// What the system caches of a file and has written, it reads again.
fn drop_page_cache(path: &Path) {
    let forgotten = File::open(path).map_err(drop).and_then(|file| {
        posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(drop)
    });
    if forgotten.is_err() {
        tracing::debug!("the system keeps what it has cached of the store");
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
        // One that a start before this made, and was cut off.
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
            // Nothing was changed: the room that it took is given back.
            drop(fs::remove_file(self.path.join(NEW_DATABASE_FILE)));
            return Err(error);
        }
        if !is_same_file(kept, &self.database_path())
            && let Err(error) = fs::hard_link(self.database_path(), kept)
        {
            // File systems without links (FAT). A cut between the renames leaves the new file under
            // its first name, where the next start finds it.
            tracing::debug!(%error, "the damaged store is renamed");
            fs::rename(self.database_path(), kept).map_err(OpenError::io(kept))?;
        }
        self.sync_directory().map_err(OpenError::io(&self.path))?;
        self.install_new_database()
    }

    fn open_database(&self, builder: &mut Builder) -> Result<Database, DatabaseError> {
        // Whoever made the file may have ended before its name was on the disk: what is stored
        // from now on would go with the name.
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
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        Some(self.room_below_file_limit().map_or(free, |left| left.min(free)))
    }

    fn capacity_bytes(&self) -> Option<u64> {
        let room = fstatvfs(&self.lock).ok()?;
        let capacity = room.blocks().saturating_mul(room.fragment_size());
        Some(file_size_limit().map_or(capacity, |limit| limit.min(capacity)))
    }

    fn reserve_bytes(&self) -> u64 {
        self.reserved
    }

    fn set_reserve(&mut self, bytes: u64) -> io::Result<()> {
        let path = self.path.join(RESERVE_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.reserved = 0;
        let Some(length) = i64::try_from(bytes).ok().filter(|length| *length > 0) else {
            return Ok(());
        };
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
