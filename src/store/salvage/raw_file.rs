//! Reads the bytes of a damaged file, with zeros where the disk cannot be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Read separately when the whole range cannot be read.
const SECTOR_BYTES: usize = 4096;

pub(super) struct RawFile {
    file: File,
    length: u64,
}

impl RawFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { file, length: metadata.len() })
    }

    pub(super) fn byte_length(&self) -> u64 {
        self.length
    }

    /// Fills `out`, with zeros behind the end of the file and where the disk cannot be read. Nothing that is searched
    /// for consists of zeros.
    pub(super) fn read_or_zero(&self, offset: u64, out: &mut [u8]) {
        if self.try_read(offset, out).is_ok() {
            return;
        }
        let mut at = offset;
        for sector in out.chunks_mut(SECTOR_BYTES) {
            if let Err(error) = self.try_read(at, sector) {
                tracing::debug!(%error, offset = at, "a part of the damaged file cannot be read");
                sector.fill(0);
            }
            at += sector.len() as u64;
        }
    }

    fn try_read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (inside, outside) = out.split_at_mut(there.min(out.len()));
        outside.fill(0);
        self.file.read_exact_at(inside, offset)
    }
}
