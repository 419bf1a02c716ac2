//! Reads files with secrets: with a size limit, and only if other users have no access.
//!
//! An error names the file, the problem and the remedy, and never shows the content.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use secrecy::zeroize::Zeroizing;
use thiserror::Error;

use crate::config::MASK;
use crate::config_file::find_file;

/// No token and no key is larger.
const SECRET_BYTES_MAX: usize = 64 << 10;
/// No collection of certificate authorities is larger.
const PUBLIC_BYTES_MAX: usize = 4 << 20;

/// Any access for other users: not allowed.
const OTHERS_ACCESS: u32 = 0o007;
/// Write access for the group: not allowed, because the token decides in whose name records are sent. Read access
/// is: root gives files to services that way, and the access list of a systemd credential looks like it.
const GROUP_WRITE: u32 = 0o020;

/// Why a file is not used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", self.describe("Nothing is sent meanwhile, records are kept"))]
pub struct SecretFileError {
    path: PathBuf,
    problem: FileProblem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileProblem {
    Unreadable(String),
    Exposed { mode: u32 },
    TooLarge,
    NoToken,
    NoHeader { line: usize },
}

impl SecretFileError {
    pub(super) fn new(path: &Path, problem: FileProblem) -> Self {
        Self { path: path.to_owned(), problem }
    }

    /// The problem, its consequence, and the remedy.
    pub fn describe(&self, consequence: &str) -> String {
        let (wrong, remedy) = self.problem.describe_with_remedy(&self.path);
        format!("{} {wrong}. {consequence}. To fix it: {remedy}", show_secret_path(&self.path))
    }
}

impl FileProblem {
    fn describe_with_remedy(&self, path: &Path) -> (String, String) {
        let path = show_secret_path(path);
        match self {
            Self::Unreadable(_) if path == MASK => (
                "is not the path of a file".into(),
                "put the token or key into a file, and name that file with its whole path".into(),
            ),
            Self::Unreadable(error) => {
                (format!("cannot be read: {error}"), "create it, readable by the user of fieldsyncd".into())
            }
            Self::Exposed { mode } => {
                let close = match (mode & GROUP_WRITE, mode & OTHERS_ACCESS) {
                    (0, _) => "o=",
                    (_, 0) => "g-w",
                    _ => "g-w,o=",
                };
                (format!("is open to others (mode {mode:04o})"), format!("chmod {close} {path}"))
            }
            Self::TooLarge => (
                format!("is larger than {} KiB", SECRET_BYTES_MAX >> 10),
                "write only the token or key into it".into(),
            ),
            Self::NoHeader { line } => (
                format!("has no header in line {line}"),
                "write one header a line, as Name: value in visible ASCII characters".into(),
            ),
            Self::NoToken => (
                "does not hold a token".into(),
                "put one there, as one word of visible ASCII characters".into(),
            ),
        }
    }
}

/// The name of a file, for people. A key may wrongly have the secret itself: what is neither an absolute path nor the name
/// of a file is masked.
pub(in crate::transport) fn show_secret_path(path: &Path) -> String {
    if path.is_absolute() || find_file(path).is_some() { path.display().to_string() } else { MASK.to_owned() }
}

/// Reads a file that no other user may read or change. The memory is wiped after use.
pub(in crate::transport) fn read_secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file_error = |problem| SecretFileError::new(path, problem);
    let unreadable = |error: io::Error| file_error(FileProblem::Unreadable(error.to_string()));
    // Checks the mode of the opened file, not of a path that may be replaced in between.
    let file = open_file(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & (OTHERS_ACCESS | GROUP_WRITE) != 0 {
        return Err(file_error(FileProblem::Exposed { mode }));
    }
    // Large enough from the beginning: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > SECRET_BYTES_MAX { Err(file_error(FileProblem::TooLarge)) } else { Ok(bytes) }
}

/// Reads a file that holds no secret.
pub(in crate::transport) fn read_public_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(PUBLIC_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > PUBLIC_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", PUBLIC_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

/// Opens a regular file, without blocking on a pipe that has no writer.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    pub(in super::super) fn write_file(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_may_read_or_change_is_rejected_with_mode_and_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (mode, remedy) in [
            (0o600, None),
            (0o400, None),
            (0o640, None),
            (0o440, None),
            (0o644, Some("o=")),
            (0o604, Some("o=")),
            (0o602, Some("o=")),
            (0o601, Some("o=")),
            (0o660, Some("g-w")),
            (0o666, Some("g-w,o=")),
        ] {
            write_file(&path, b"sesame", mode);
            let result = read_secret_file(&path).map_err(|error| error.to_string());
            let Some(remedy) = remedy else {
                assert_eq!(result.unwrap().as_slice(), b"sesame");
                continue;
            };
            let error = result.unwrap_err();
            assert!(error.contains(&format!("(mode {mode:04o})")), "{error}");
            assert!(error.ends_with(&format!("chmod {remedy} {}", path.display())), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_or_not_regular_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let error_of = |path: &Path| read_secret_file(path).unwrap_err().to_string();
        assert!(error_of(&path).contains("cannot be read: No such file"), "{}", error_of(&path));
        assert!(error_of(directory.path()).contains("it is not a file"), "{}", error_of(directory.path()));
        assert!(error_of(Path::new("/dev/zero")).contains("it is not a file"));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(error_of(&path).contains("it is not a file"), "opening it waits for no writer");
        fs::remove_file(&path).unwrap();
        write_file(&path, &vec![b'a'; SECRET_BYTES_MAX], 0o600);
        assert_eq!(read_secret_file(&path).unwrap().len(), SECRET_BYTES_MAX);
        write_file(&path, &vec![b'a'; SECRET_BYTES_MAX + 1], 0o600);
        assert!(error_of(&path).contains("is larger than 64 KiB"));
    }
}
