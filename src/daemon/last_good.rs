//! The last configuration that the daemon accepted, in the state directory. A start with a configuration that has a
//! mistake uses it: a typo must not stop the intake of records.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigFile, LAST_GOOD_FILE, LoadedConfig, find_state_dir, parse_layers};
use crate::config_file::ConfigLocation;

const NEW_FILE_NAME: &str = "last-good.toml.new";
const STATE_DIR_VARIABLE: &str = "FIELDSYNC_QUEUE__STATE_DIR";
const HEADER: &str = "# Written by fieldsyncd: the last configuration that it accepted. Do not edit it.\n";

/// Keeps a configuration that was accepted, in the directory of the queue that is open. Only its owner may read it.
pub(super) fn keep(config: &Config, state_dir: &Path) {
    // A new directory takes effect at the next start, which then keeps its configuration there.
    if config.state_dir() != state_dir {
        return;
    }
    if let Err(error) = write(config, state_dir) {
        tracing::warn!(%error, "the last good configuration could not be saved in {}", state_dir.display());
    }
    // A queue that was left behind must not be opened again because of a typo.
    let default_dir = Config::default().state_dir();
    if default_dir != state_dir {
        fs::remove_file(default_dir.join(LAST_GOOD_FILE)).ok();
    }
}

fn write(config: &Config, state_dir: &Path) -> io::Result<()> {
    let (path, text) = (state_dir.join(LAST_GOOD_FILE), format!("{HEADER}{}", config.to_toml()));
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let new = state_dir.join(NEW_FILE_NAME);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(state_dir)?.sync_all()
}

/// The last good configuration of the queue that these files name, and its path.
pub(super) fn find(location: &ConfigLocation) -> Option<(LoadedConfig, PathBuf)> {
    // A path that does not exist is another mistake than a typo in a file: it may belong to another device.
    if !location.exists() {
        return None;
    }
    let variable = std::env::var(STATE_DIR_VARIABLE).ok();
    let state_dir = find_state_dir(&location.read_some(), variable.as_deref())?;
    let path = state_dir.join(LAST_GOOD_FILE);
    let file = ConfigFile { text: fs::read_to_string(&path).ok()?, path: path.clone() };
    let loaded = parse_layers(&[file], std::iter::empty()).ok()?;
    (loaded.config.state_dir() == state_dir).then_some((loaded, path))
}
