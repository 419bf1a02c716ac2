//! Names, sizes and times of the files in the state directory. Their contents are not read.

use std::fs::{self, DirEntry};
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
    let listed = listed.map(|(lines, is_cut)| {
        let note = is_cut.then(|| format!("{FILES_MAX} of the files, not in order"));
        (texts.redact_secrets(&format!("{}\n{}\n", state_dir.display(), lines.join("\n"))), note)
    });
    BundlePart::new(NAME, PURPOSE, listed)
}

/// One line for each file, by name, and whether there are more files.
fn list_directory(directory: &Path) -> io::Result<(Vec<String>, bool)> {
    let mut entries = fs::read_dir(directory)?;
    let mut lines = Vec::new();
    for entry in entries.by_ref().take(FILES_MAX) {
        lines.extend(describe_entry(&entry?)?);
    }
    lines.sort();
    Ok((lines.into_iter().map(|(_, line)| line).collect(), entries.next().is_some()))
}

/// The name and the line. `None` if the file is gone: the store removes its temporary files.
fn describe_entry(entry: &DirEntry) -> io::Result<Option<(String, String)>> {
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let since = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    let modified = since.map_or_else(String::new, |since| rfc3339(millis(since)));
    let name = crate::hidden::replace_hidden(&entry.file_name().to_string_lossy()).into_owned();
    let slash = if metadata.is_dir() { "/" } else { "" };
    let line = format!("{name}{slash}\t{} bytes\t{modified}", metadata.len());
    Ok(Some((name, line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_disappears_is_not_listed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("b"), "").unwrap();
        fs::write(directory.path().join("a"), "12").unwrap();
        let entries: Vec<DirEntry> = fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
        let (lines, is_cut) = list_directory(directory.path()).unwrap();
        assert!(lines[0].starts_with("a\t2 bytes") && lines[1].starts_with("b\t0 bytes"), "{lines:?}");
        assert!(!is_cut);
        fs::remove_file(directory.path().join("b")).unwrap();
        let described: Vec<_> = entries.iter().filter_map(|entry| describe_entry(entry).unwrap()).collect();
        assert_eq!(described.len(), 1);
    }
}
