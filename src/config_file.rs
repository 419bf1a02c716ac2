//! Finds and reads the configuration file, and applies the environment of this process.

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, DEFAULT_FILE, parse_layers};

/// The file to read. A named file must exist; the default file may be missing.
pub(crate) fn find_config_file(named: Option<&Path>) -> Option<PathBuf> {
    let default = Path::new(DEFAULT_FILE);
    named.map(Path::to_owned).or_else(|| default.exists().then(|| default.to_owned()))
}

/// Merges the defaults, `file` if there is one, and the environment variables.
pub(crate) fn load_config(file: Option<&Path>) -> Result<Config, ConfigError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })
    };
    let text = file.map(read).transpose()?;
    parse_layers(file.zip(text.as_deref()), std::env::vars_os())
}
