//! Where an export goes: standard output, or a file that is whole or not there at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::context::Context;
use super::failure::Failure;
use super::words::{count, newlines};
use crate::exit;

/// A destination of NDJSON. A file is readable by its owner alone: records are nobody else's business.
pub(crate) struct Target<'a> {
    place: Place<'a>,
    lines: u64,
}

enum Place<'a> {
    Out(BufWriter<&'a mut dyn Write>),
    /// A pipe or a device, which cannot be renamed over.
    Device(BufWriter<File>, PathBuf),
    File(BufWriter<NamedTempFile>, PathBuf),
}

/// What was written.
pub(crate) struct Written {
    lines: u64,
    file: Option<PathBuf>,
}

impl<'a> Target<'a> {
    /// `None` and `-` are standard output.
    pub(crate) fn open(file: Option<&Path>, out: &'a mut dyn Write) -> Result<Self, Failure> {
        let place = match file {
            None => Place::Out(BufWriter::new(out)),
            Some(file) if file == Path::new("-") => Place::Out(BufWriter::new(out)),
            Some(file) => open_file(file).map_err(|error| cannot_write(file, &error))?,
        };
        Ok(Self { place, lines: 0 })
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// A piece that is cut anywhere.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.lines += newlines(bytes);
        match &mut self.place {
            Place::Out(writer) => Ok(writer.write_all(bytes)?),
            Place::Device(writer, path) => {
                writer.write_all(bytes).map_err(|error| cannot_write(path, &error))
            }
            Place::File(writer, path) => writer.write_all(bytes).map_err(|error| cannot_write(path, &error)),
        }
    }

    /// Makes it last, and visible.
    pub(crate) fn finish(self) -> Result<Written, Failure> {
        let lines = self.lines;
        let file = match self.place {
            Place::Out(mut writer) => {
                writer.flush()?;
                None
            }
            Place::Device(mut writer, path) => {
                writer.flush().map_err(|error| cannot_write(&path, &error))?;
                Some(path)
            }
            Place::File(writer, path) => {
                persist(writer, &path).map_err(|error| cannot_write(&path, &error))?;
                Some(path)
            }
        };
        Ok(Written { lines, file })
    }
}

impl Written {
    /// Says so, unless standard output is where the records went.
    pub(crate) fn report(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Some(file) = self.file else {
            return Ok(());
        };
        if context.json {
            let report = serde_json::json!({ "records": self.lines, "file": file.to_string_lossy() });
            return context.line(report.to_string());
        }
        context.line(format!("{} written to {}", count(self.lines, "record"), file.display()))
    }
}

fn open_file<'a>(path: &Path) -> io::Result<Place<'a>> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let device = File::options().write(true).open(path)?;
        return Ok(Place::Device(BufWriter::new(device), path.to_owned()));
    }
    // What a link leads to is replaced, and not the link.
    let path = &if path.is_symlink() { path.canonicalize()? } else { path.to_owned() };
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let file = NamedTempFile::new_in(dir)?;
    Ok(Place::File(BufWriter::new(file), path.to_owned()))
}

fn persist(writer: BufWriter<NamedTempFile>, path: &Path) -> io::Result<()> {
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot write {}: {error}. The daemon's records are untouched.", path.display());
    Failure::new(exit::FAILED, message)
}
