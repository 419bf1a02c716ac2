//! The inputs. Each is read twice. An input that can be read only once, such as a pipe, is spooled: a small one to memory,
//! a large one to an unnamed file that disappears with this process.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tempfile::{SpooledTempFile, spooled_tempfile_in};

use super::progress;
use crate::cli::context::NoteWriter;
use crate::cli::failure::CommandFailure;
use crate::cli::format::strip_controls;

/// A larger pipe is spooled to a file.
const SPOOL_MEMORY_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 << 10;
/// The directory of the spool file, unless `TMPDIR` names one.
const SPOOL_DIR: &str = "/var/tmp";

pub(super) struct InputSource {
    /// For messages.
    pub(super) name: String,
    content: SourceContent,
    /// The size of the input.
    pub(super) bytes: u64,
}

enum SourceContent {
    /// A file, from its initial position.
    File { file: File, start: u64 },
    /// The content of a pipe.
    Spooled(SpooledTempFile),
}

impl InputSource {
    pub(super) fn open(path: &Path, notes: NoteWriter) -> Result<Self, CommandFailure> {
        let standard_input = path == Path::new("-");
        let (name, file) = if standard_input {
            ("standard input".to_owned(), duplicate_stdin())
        } else {
            (strip_controls(&path.to_string_lossy()).into_owned(), File::open(path))
        };
        if standard_input && io::stdin().is_terminal() {
            notes.print_note("Reading records from the terminal, one on each line; Ctrl-D ends the input.");
        }
        let mut file = file.map_err(|error| read_failure(&name, &error))?;
        let metadata = file.metadata().map_err(|error| read_failure(&name, &error))?;
        let content = if metadata.is_file() {
            let start = file.stream_position().map_err(|error| read_failure(&name, &error))?;
            SourceContent::File { file, start }
        } else {
            SourceContent::Spooled(spool_pipe(
                file,
                &name,
                SPOOL_MEMORY_BYTES_MAX,
                &progress::reading_bar(&name),
            )?)
        };
        let mut source = Self { name, content, bytes: 0 };
        source.bytes = source.measure_bytes().map_err(|error| read_failure(&source.name, &error))?;
        Ok(source)
    }

    fn measure_bytes(&mut self) -> io::Result<u64> {
        match &mut self.content {
            SourceContent::File { file, start } => Ok(file.metadata()?.len().saturating_sub(*start)),
            SourceContent::Spooled(kept) => kept.seek(SeekFrom::End(0)),
        }
    }

    /// A reader from the beginning.
    pub(super) fn open_reader(&mut self) -> Result<Box<dyn BufRead + '_>, CommandFailure> {
        let name = &self.name;
        let at_start = |moved: io::Result<u64>| moved.map_err(|error| read_failure(name, &error));
        match &mut self.content {
            SourceContent::File { file, start } => {
                at_start(file.seek(SeekFrom::Start(*start)))?;
                Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)))
            }
            SourceContent::Spooled(kept) => {
                at_start(kept.seek(SeekFrom::Start(0)))?;
                Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, kept)))
            }
        }
    }
}

fn spool_pipe(
    mut pipe: impl Read,
    name: &str,
    in_memory: usize,
    bar: &ProgressBar,
) -> Result<SpooledTempFile, CommandFailure> {
    let named = std::env::var_os("TMPDIR").filter(|name| !name.is_empty());
    let directory = named.map_or_else(|| PathBuf::from(SPOOL_DIR), PathBuf::from);
    let mut kept = spooled_tempfile_in(in_memory, &directory);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failure(name, &error)),
        };
        kept.write_all(&buffer[..read]).map_err(|error| {
            CommandFailure::failed(format!(
                "{name} cannot be spooled to {} for the check: {error}. Nothing was stored. Name a directory with more space in \
                 TMPDIR, or enqueue a file instead of a pipe.",
                directory.display()
            ))
        })?;
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    Ok(kept)
}

/// As a file it can be distinguished from a pipe, and read again.
fn duplicate_stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn read_failure(name: &str, error: &io::Error) -> CommandFailure {
    CommandFailure::failed(format!(
        "cannot read {name}: {error}. Nothing was stored. Make sure that it exists and that you may read it, then try again."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_source(source: &mut InputSource) -> String {
        let mut text = String::new();
        source.open_reader().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_file_is_read_twice_from_its_initial_position() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"header\nrecord\n").unwrap();
        let content = SourceContent::File { file, start: 7 };
        let mut source = InputSource { name: "file".to_owned(), content, bytes: 0 };
        assert_eq!([read_source(&mut source), read_source(&mut source)], ["record\n", "record\n"]);
        assert_eq!(source.measure_bytes().unwrap(), 7);
    }

    #[test]
    fn a_pipe_is_spooled_and_read_twice_whether_it_fits_into_memory_or_not() {
        for in_memory in [3, 100] {
            let kept = spool_pipe(&b"1234567"[..], "pipe", in_memory, &ProgressBar::hidden()).unwrap();
            assert_eq!(kept.is_rolled(), in_memory < 7);
            let mut source =
                InputSource { name: "pipe".to_owned(), content: SourceContent::Spooled(kept), bytes: 0 };
            assert_eq!(source.measure_bytes().unwrap(), 7);
            assert_eq!([read_source(&mut source), read_source(&mut source)], ["1234567", "1234567"]);
        }
    }

    #[test]
    fn an_unreadable_input_is_named() {
        let failure = InputSource::open(Path::new("/nowhere/records.ndjson"), NoteWriter { json: false })
            .err()
            .unwrap();
        assert!(failure.message.starts_with("cannot read /nowhere/records.ndjson: "), "{}", failure.message);
    }
}
