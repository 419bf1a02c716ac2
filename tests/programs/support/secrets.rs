//! Files with secrets.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Replaces a file as an administrator would: by renaming a new file, which never has another mode.
pub(crate) fn place(path: &Path, content: &str, mode: u32) {
    let aside = path.with_extension("new");
    fs::write(&aside, content).unwrap();
    fs::set_permissions(&aside, Permissions::from_mode(mode)).unwrap();
    fs::rename(aside, path).unwrap();
}
