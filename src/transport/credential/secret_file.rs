//! Reads files that hold a secret: bounded, and only when they are closed to others.
//!
//! A refusal names the file, what is wrong with it and what to do, and never shows what it holds.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use secrecy::zeroize::Zeroizing;
use thiserror::Error;

/// No token and no key is larger.
const SECRET_LIMIT: usize = 64 << 10;
/// Neither are the authorities of the whole world.
const PLAIN_LIMIT: usize = 4 << 20;

/// What others may not have: anything at all.
const OTHERS: u32 = 0o007;
/// A group may read: so root hands a file to a service, and so the access list of a systemd credential
/// looks from here. It may not write: who writes the token decides in whose name records are sent.
const GROUP_WRITES: u32 = 0o020;

/// A file is not used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", self.meanwhile("Nothing is sent meanwhile, records are kept"))]
pub struct Refusal {
    path: PathBuf,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Unreadable(String),
    Open { mode: u32 },
    TooLarge,
    NoToken,
}

impl Refusal {
    pub(super) fn new(path: &Path, reason: Reason) -> Self {
        Self { path: path.to_owned(), reason }
    }

    /// What is wrong, what it means until it is mended, and how to mend it.
    pub fn meanwhile(&self, consequence: &str) -> String {
        let (wrong, remedy) = self.reason.describe(&self.path);
        format!("{} {wrong}. {consequence}. To mend it: {remedy}", self.path.display())
    }
}

impl Reason {
    fn describe(&self, path: &Path) -> (String, String) {
        let path = path.display();
        match self {
            Self::Unreadable(error) => (
                format!("cannot be read: {error}"),
                "put it there, for the user of fieldsyncd to read".into(),
            ),
            Self::Open { mode } => {
                let close = match (mode & GROUP_WRITES, mode & OTHERS) {
                    (0, _) => "o=",
                    (_, 0) => "g-w",
                    _ => "g-w,o=",
                };
                (format!("is open to others (mode {mode:04o})"), format!("chmod {close} {path}"))
            }
            Self::TooLarge => (
                format!("is larger than {} KiB", SECRET_LIMIT >> 10),
                "put the token or key there, and nothing else".into(),
            ),
            Self::NoToken => (
                "does not hold a token".into(),
                "put one there, as one word of visible ASCII characters".into(),
            ),
        }
    }
}

/// The content of a file that nobody else may read or change. It is wiped.
pub(in crate::transport) fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let refuse = |reason| Refusal::new(path, reason);
    let unreadable = |error: io::Error| refuse(Reason::Unreadable(error.to_string()));
    // The mode of what is read, and not of what has this name a moment before.
    let file = open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & (OTHERS | GROUP_WRITES) != 0 {
        return Err(refuse(Reason::Open { mode }));
    }
    // Large enough from the beginning: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LIMIT + 1));
    file.take(SECRET_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > SECRET_LIMIT { Err(refuse(Reason::TooLarge)) } else { Ok(bytes) }
}

/// The content of a file that holds no secret.
pub(in crate::transport) fn plain(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(PLAIN_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > PLAIN_LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", PLAIN_LIMIT >> 20)));
    }
    Ok(bytes)
}

/// A pipe that nobody writes to must not hold the daemon up.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    pub(in super::super) fn place(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_read_or_change_is_refused_with_mode_and_remedy() {
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
            place(&path, b"sesame", mode);
            let told = secret(&path).map_err(|refusal| refusal.to_string());
            let Some(remedy) = remedy else {
                assert_eq!(told.unwrap().as_slice(), b"sesame");
                continue;
            };
            let told = told.unwrap_err();
            assert!(told.contains(&format!("(mode {mode:04o})")), "{told}");
            assert!(told.ends_with(&format!("chmod {remedy} {}", path.display())), "{told}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let told = |path: &Path| secret(path).unwrap_err().to_string();
        assert!(told(&path).contains("cannot be read: No such file"), "{}", told(&path));
        assert!(told(directory.path()).contains("it is no file"), "{}", told(directory.path()));
        assert!(told(Path::new("/dev/zero")).contains("it is no file"));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(told(&path).contains("it is no file"), "nobody waits for a writer");
        fs::remove_file(&path).unwrap();
        place(&path, &vec![b'a'; SECRET_LIMIT], 0o600);
        assert_eq!(secret(&path).unwrap().len(), SECRET_LIMIT);
        place(&path, &vec![b'a'; SECRET_LIMIT + 1], 0o600);
        assert!(told(&path).contains("is larger than 64 KiB"));
    }
}
