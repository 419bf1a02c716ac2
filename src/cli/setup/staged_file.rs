//! Writes several files so that a failure leaves none of them changed: all are written aside first, then renamed.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};
use tempfile::NamedTempFile;

use crate::cli::failure::CommandFailure;
use crate::exit;

const DIRECTORY_MODE: u32 = 0o755;

/// A file that is written beside its place, and has the mode and owner that it will have there.
pub(super) struct StagedFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl StagedFile {
    pub(super) fn write(
        path: &Path,
        content: &[u8],
        mode: u32,
        owner: Option<(Uid, Gid)>,
    ) -> Result<Self, CommandFailure> {
        let write = || {
            if path.is_dir() {
                return Err(io::Error::from(ErrorKind::IsADirectory));
            }
            // It is closed to others before it has its content.
            let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
            file.write_all(content)?;
            if let Some((user, group)) = owner {
                chown(file.path(), Some(user), Some(group))?;
            }
            file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|error: io::Error| write_failure(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Puts it in its place.
    pub(super) fn commit(self) -> Result<PathBuf, CommandFailure> {
        let Self { path, file } = self;
        file.persist(&path).map_err(|error| write_failure(&path, &error.error))?;
        Ok(path)
    }
}

pub(super) fn create_directory(path: &Path) -> Result<(), CommandFailure> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE))
            .map_err(|error| write_failure(path, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(write_failure(path, &error)),
    }
}

pub(super) fn write_failure(path: &Path, error: &io::Error) -> CommandFailure {
    let message = format!("cannot write {}: {error}", path.display());
    if error.kind() == ErrorKind::PermissionDenied {
        return CommandFailure::new(
            exit::NOT_PERMITTED,
            format!("{message}. Run it as root: sudo fieldsync setup"),
        );
    }
    CommandFailure::failed(format!("{message}. What the daemon uses was not changed."))
}
