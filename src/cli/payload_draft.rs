//! The temporary file of `fieldsync quarantine edit`, which only its owner may read.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;

use super::failure::CommandFailure;
use crate::model::RecordId;

/// The text that the user edits.
pub(super) struct PayloadDraft {
    dir: TempDir,
    pub(super) file: PathBuf,
    original: String,
}

impl PayloadDraft {
    pub(super) fn new(id: RecordId, text: &str) -> Result<Self, CommandFailure> {
        let make = || -> io::Result<Self> {
            let dir = tempfile::Builder::new()
                .prefix("fieldsync-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir()?;
            let file = dir.path().join(format!("{id}.json"));
            File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file)?
                .write_all(text.as_bytes())?;
            Ok(Self { dir, file, original: text.to_owned() })
        };
        make().map_err(|error| {
            CommandFailure::failed(format!(
                "no temporary file for the editor: {error}. Nothing was changed. Make room there, or name another \
                 directory in TMPDIR."
            ))
        })
    }

    pub(super) fn read_text(&self) -> io::Result<String> {
        fs::read_to_string(&self.file)
    }

    pub(super) fn keep_if_changed(self, failure: CommandFailure) -> CommandFailure {
        if self.read_text().is_ok_and(|text| text == self.original) {
            failure
        } else {
            self.keep_text(failure)
        }
    }

    pub(super) fn keep_text(self, failure: CommandFailure) -> CommandFailure {
        self.keep_with_note(failure, "The record was not changed; your text is kept in")
    }

    /// The text was sent, but no response arrived.
    pub(super) fn keep_in_doubt(self, failure: CommandFailure, id: RecordId) -> CommandFailure {
        let say = format!(
            "It is not known whether your text is in the record: fieldsync show --payload {id}. It is also kept in"
        );
        self.keep_with_note(failure, &say)
    }

    fn keep_with_note(self, failure: CommandFailure, say: &str) -> CommandFailure {
        // Keeps the directory; the path is in the message.
        drop(self.dir.keep());
        let message = format!("{} {say} {}", failure.message, self.file.display());
        CommandFailure { message, ..failure }
    }
}
