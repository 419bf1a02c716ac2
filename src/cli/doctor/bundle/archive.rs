//! Writes the archive: a tar file that zstd compresses, written as it is made.
//!
//! Owner, mode and time of every file are fixed, so that the same content makes the same archive.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

/// Compresses well, and needs little memory.
const COMPRESSION_LEVEL: i32 = 6;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// An archive with one directory.
pub(super) struct BundleArchive<W: Write> {
    tar: Builder<Encoder<'static, W>>,
    directory: String,
    time_s: u64,
}

impl<W: Write> BundleArchive<W> {
    pub(super) fn create(out: W, directory: String, time_s: u64) -> io::Result<Self> {
        let mut archive =
            Self { tar: Builder::new(Encoder::new(out, COMPRESSION_LEVEL)?), directory, time_s };
        let path = format!("{}/", archive.directory);
        let mut header = archive.new_header(EntryType::Directory, DIRECTORY_MODE, 0);
        archive.tar.append_data(&mut header, path, io::empty())?;
        Ok(archive)
    }

    pub(super) fn add_file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = format!("{}/{name}", self.directory);
        let mut header = self.new_header(EntryType::Regular, FILE_MODE, content.len() as u64);
        self.tar.append_data(&mut header, path, content)
    }

    /// Completes the archive, and returns where it was written.
    pub(super) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }

    fn new_header(&self, entry_type: EntryType, mode: u32, bytes: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry_type);
        header.set_mode(mode);
        header.set_size(bytes);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time_s);
        header
    }
}
