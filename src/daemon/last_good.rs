//! The last configuration that the daemon accepted, in the state directory. A start with a configuration that has a
//! mistake uses it: a typo must not stop the intake of records.
//!
//! The default directory, which no typo can hide, names the directory of the queue if that is another one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{
    Config, ConfigFile, LAST_GOOD_FILE, LoadedConfig, StateDirHint, find_state_dir, parse_layers,
};
use crate::config_file::{ConfigLocation, find_file, read_text};

const POINTER_NAME: &str = "last-state-dir.toml";
const STATE_DIR_VARIABLE: &str = "FIELDSYNC_QUEUE__STATE_DIR";
const HEADER: &str = "# Written by fieldsyncd: the last configuration that it accepted. Do not edit it.\n";
const POINTER_HEADER: &str = "# Written by fieldsyncd: where it keeps its queue. Do not edit it.\n";

/// The directory of the queue of a configuration that was accepted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateDirPointer {
    /// Another daemon with other files may share the default directory.
    config: PathBuf,
    state_dir: PathBuf,
}

/// Keeps a configuration that was accepted, in the directory of the queue that is open. Only its owner may read it.
pub(super) fn keep(config: &Config, location: &ConfigLocation, state_dir: &Path) {
    // A new directory takes effect at the next start, which then keeps its configuration there.
    if config.state_dir() != state_dir {
        return;
    }
    let text = format!("{HEADER}{}", config.to_masked_toml(find_file));
    if let Err(error) = write(state_dir, LAST_GOOD_FILE, &text) {
        tracing::warn!(%error, "the last good configuration could not be saved in {}", state_dir.display());
    }
    let default_dir = Config::default().state_dir();
    // A queue that was left behind must not be opened again because of a typo.
    if let Some(old) = read_pointer(&default_dir, location).filter(|old| old != state_dir) {
        fs::remove_file(old.join(LAST_GOOD_FILE)).ok();
    }
    if default_dir == state_dir {
        fs::remove_file(default_dir.join(POINTER_NAME)).ok();
        return;
    }
    fs::remove_file(default_dir.join(LAST_GOOD_FILE)).ok();
    let pointer = StateDirPointer { config: location.path().into(), state_dir: state_dir.into() };
    let written = toml::to_string(&pointer)
        .map_err(io::Error::other)
        .and_then(|text| write(&default_dir, POINTER_NAME, &format!("{POINTER_HEADER}{text}")));
    if let Err(error) = written {
        tracing::debug!(%error, "the directory of the queue could not be noted in {}", default_dir.display());
    }
}

fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = directory.join(name);
    if read_text(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let new = directory.join(format!("{name}.new"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(directory)?.sync_all()
}

/// The last good configuration of the queue that these files name, or named last if they do not; and its path.
pub(super) fn find(location: &ConfigLocation) -> Option<(LoadedConfig, PathBuf)> {
    // A path that does not exist is another mistake than a typo in a file: it may belong to another device.
    if !location.exists() {
        return None;
    }
    let variable = std::env::var(STATE_DIR_VARIABLE).ok();
    let default_dir = Config::default().state_dir();
    let state_dir = match find_state_dir(&location.read_some(), variable.as_deref()) {
        StateDirHint::Named(state_dir) => state_dir,
        StateDirHint::NotNamed => read_pointer(&default_dir, location).unwrap_or(default_dir),
        StateDirHint::Unclear => read_pointer(&default_dir, location)?,
    };
    let path = state_dir.join(LAST_GOOD_FILE);
    let file = ConfigFile { text: read_text(&path).ok()?, path: path.clone() };
    let loaded = parse_layers(&vec![file].into(), std::iter::empty()).ok()?;
    (loaded.config.state_dir() == state_dir).then_some((loaded, path))
}

/// The directory that a configuration from these files named last.
fn read_pointer(default_dir: &Path, location: &ConfigLocation) -> Option<PathBuf> {
    let pointer: StateDirPointer = toml::from_str(&read_text(&default_dir.join(POINTER_NAME)).ok()?).ok()?;
    (pointer.config == location.path()).then_some(pointer.state_dir)
}
