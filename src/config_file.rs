//! Finds and reads the files of the configuration, and applies the environment of this process.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::config::{
    ConfigError, ConfigFile, ConfigFiles, ConfigMistake, DEFAULT_FILE, DROP_IN_DIRECTORY, LoadedConfig,
    parse_layers,
};

/// No configuration is larger. A larger file is something else, for example a device that never ends.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file or directory that the configuration is read from.
#[derive(Clone, Debug)]
pub(crate) struct ConfigLocation {
    /// It must exist.
    named: Option<PathBuf>,
}

impl ConfigLocation {
    /// The file or directory that an option names, else the default file, which may be missing.
    pub(crate) fn new(named: Option<&Path>) -> Self {
        Self { named: named.map(Path::to_owned) }
    }

    /// The default file may appear later. A file that was used before must not disappear.
    pub(crate) fn keep_found(&mut self) {
        if self.named.is_none() && Path::new(DEFAULT_FILE).exists() {
            self.named = Some(DEFAULT_FILE.into());
        }
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.named.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    /// All files, in the order in which they are read: `*.toml` of a directory; or the file, then those in `conf.d`.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let path = self.path();
        if path.is_dir() {
            return list_directory(path).map_err(|source| unreadable(path, source));
        }
        let mut files = Vec::new();
        if self.named.is_some() || path.exists() {
            files.push(path.to_owned());
        }
        let drop_ins = path.parent().unwrap_or(Path::new(".")).join(DROP_IN_DIRECTORY);
        match list_directory(&drop_ins) {
            Ok(found) => files.extend(found),
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            }
            Err(source) => return Err(unreadable(&drop_ins, source)),
        }
        Ok(files)
    }

    /// Whether there is anything that a person could have written a mistake into.
    pub(crate) fn exists(&self) -> bool {
        self.named.is_none() || self.path().exists()
    }

    /// The files that can be read.
    pub(crate) fn read_some(&self) -> Vec<ConfigFile> {
        let read = |path: PathBuf| Some(ConfigFile { text: read_text(&path).ok()?, path });
        self.files().unwrap_or_default().into_iter().filter_map(read).collect()
    }

    /// Reads all files. Those that cannot be used are mistakes, so that the mistakes in the others are named, too.
    pub(crate) fn read(&self) -> Result<ConfigFiles, ConfigError> {
        let mut found = ConfigFiles::default();
        for path in self.files()? {
            match read_text(&path) {
                Ok(text) => found.files.push(ConfigFile { path, text }),
                Err(source) if source.kind() == ErrorKind::PermissionDenied => {
                    return Err(unreadable(&path, source));
                }
                Err(source) if source.kind() == ErrorKind::NotFound && path == self.path() => {
                    return Err(unreadable(&path, source));
                }
                Err(source) => found.unusable.push(ConfigMistake::in_file(&path, &source)),
            }
        }
        Ok(found)
    }

    /// Merges the defaults, the files, and the environment variables.
    pub(crate) fn load(&self) -> Result<LoadedConfig, ConfigError> {
        parse_layers(&self.read()?, std::env::vars_os())
    }
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Read { path: path.into(), source }
}

/// The text of a regular file of limited size. Nothing else is read: a pipe without a writer would block the daemon.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink());
    // A pipe opens without a writer, and a device without a carrier.
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound if is_link(path) => {
            let target = fs::read_link(path).unwrap_or_default();
            io::Error::other(format!("it is a link to {}, which does not exist", target.display()))
        }
        // The kernel's answer for a socket.
        _ if fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()) => {
            io::Error::other("it is a socket, not a file")
        }
        _ => error,
    })?;
    let file_type = file.metadata()?.file_type();
    if !file_type.is_file() {
        return Err(io::Error::other(format!("it is {}, not a file", name_type(file_type))));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        io::Error::other(format!("its line {line} is not UTF-8 text: save the file as UTF-8"))
    })
}

fn name_type(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO (named pipe)"
    } else {
        "a device"
    }
}

/// The whole path of a file that a key names, if there is one. A token that is written there in clear is none.
pub(crate) fn find_file(path: &Path) -> Option<PathBuf> {
    std::path::absolute(path).ok().filter(|path| path.exists())
}

/// The `*.toml` in this directory in the order of their bytes, without hidden files.
fn list_directory(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}
