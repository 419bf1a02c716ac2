//! Names, sizes and times of the files in the state directory. Their contents are not read.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::part::BundlePart;
use super::redaction::text::TextRedactor;
use crate::clock::{millis, rfc3339};

const NAME: &str = "state-directory.txt";
const PURPOSE: &str = "names and sizes of the files in the state directory, without their contents";
const FILES_MAX: usize = 1000;

pub(super) fn list_state_files(state_dir: Option<PathBuf>, texts: &TextRedactor) -> BundlePart {
    let Some(state_dir) = state_dir else {
        return BundlePart::left_out(
            NAME,
            PURPOSE,
            "without a valid configuration, the directory is not known",
        );
    };
    let listed = list_directory(&state_dir).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => format!("not permitted to read {}: run as root", state_dir.display()),
        _ => format!("{}: {error}", state_dir.display()),
    });
    let listed = listed.map(|lines| {
        let note = (lines.len() > FILES_MAX).then(|| format!("the first {FILES_MAX} files"));
        let lines: Vec<String> = lines.into_iter().take(FILES_MAX).collect();
        (texts.redact(&format!("{}\n{}\n", state_dir.display(), lines.join("\n"))), note)
    });
    BundlePart::new(NAME, PURPOSE, listed)
}

/// One line for each file, by name.
fn list_directory(directory: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory)?.take(FILES_MAX + 1) {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let since = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        let modified = since.map_or_else(String::new, |since| rfc3339(millis(since)));
        let name = crate::hidden::replace_hidden(&entry.file_name().to_string_lossy()).into_owned();
        let slash = if metadata.is_dir() { "/" } else { "" };
        lines.push((name.clone(), format!("{name}{slash}\t{} bytes\t{modified}", metadata.len())));
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}
