//! Finds and reads the files of the configuration, and applies the environment of this process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, ConfigFile, DEFAULT_FILE, DROP_IN_DIRECTORY, LoadedConfig, parse_layers};

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
        let read = |path: PathBuf| Some(ConfigFile { text: fs::read_to_string(&path).ok()?, path });
        self.files().unwrap_or_default().into_iter().filter_map(read).collect()
    }

    /// Reads all files.
    pub(crate) fn read(&self) -> Result<Vec<ConfigFile>, ConfigError> {
        let read = |path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Ok(ConfigFile { path, text }),
            Err(source) => Err(unreadable(&path, source)),
        };
        self.files()?.into_iter().map(read).collect()
    }

    /// Merges the defaults, the files, and the environment variables.
    pub(crate) fn load(&self) -> Result<LoadedConfig, ConfigError> {
        parse_layers(&self.read()?, std::env::vars_os())
    }
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Read { path: path.into(), source }
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
