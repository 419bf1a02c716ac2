//! Where records come from. Everything is read twice; what can be read once only, as a pipe, is kept
//! meanwhile: a little in memory, more in a file that has no name and goes away with this process.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tempfile::{SpooledTempFile, spooled_tempfile_in};

use super::progress;
use crate::cli::context::Notes;
use crate::cli::failure::Failure;
use crate::cli::words::plain;

/// Of a pipe, so much is kept in memory.
const MAX_IN_MEMORY: usize = 1 << 20;
const BUFFER: usize = 64 << 10;
/// Where a lot may be kept that is not to be in memory, unless `TMPDIR` names a place.
const LARGE_FILES: &str = "/var/tmp";

pub(super) struct Source {
    /// For messages.
    pub(super) name: String,
    content: Content,
    /// How much there is to read, as far as that is known.
    pub(super) bytes: u64,
}

enum Content {
    /// A file, from where it stood when it was handed over.
    File { file: File, start: u64 },
    /// All of a pipe.
    Kept(SpooledTempFile),
}

impl Source {
    pub(super) fn open(path: &Path, notes: Notes) -> Result<Self, Failure> {
        let standard_input = path == Path::new("-");
        let (name, file) = if standard_input {
            ("standard input".to_owned(), duplicate_stdin())
        } else {
            (plain(&path.to_string_lossy()).into_owned(), File::open(path))
        };
        if standard_input && io::stdin().is_terminal() {
            notes.say("Reading records from the terminal, one a line; Ctrl-D ends them.");
        }
        let mut file = file.map_err(|error| unreadable(&name, &error))?;
        let metadata = file.metadata().map_err(|error| unreadable(&name, &error))?;
        let content = if metadata.is_file() {
            let start = file.stream_position().map_err(|error| unreadable(&name, &error))?;
            Content::File { file, start }
        } else {
            Content::Kept(keep(file, &name, MAX_IN_MEMORY, &progress::reading(&name))?)
        };
        let mut source = Self { name, content, bytes: 0 };
        source.bytes = source.measure().map_err(|error| unreadable(&source.name, &error))?;
        Ok(source)
    }

    fn measure(&mut self) -> io::Result<u64> {
        match &mut self.content {
            Content::File { file, start } => Ok(file.metadata()?.len().saturating_sub(*start)),
            Content::Kept(kept) => kept.seek(SeekFrom::End(0)),
        }
    }

    /// From the beginning, each time.
    pub(super) fn reader(&mut self) -> Result<Box<dyn BufRead + '_>, Failure> {
        let name = &self.name;
        let at_start = |moved: io::Result<u64>| moved.map_err(|error| unreadable(name, &error));
        match &mut self.content {
            Content::File { file, start } => {
                at_start(file.seek(SeekFrom::Start(*start)))?;
                Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
            }
            Content::Kept(kept) => {
                at_start(kept.seek(SeekFrom::Start(0)))?;
                Ok(Box::new(BufReader::with_capacity(BUFFER, kept)))
            }
        }
    }
}

fn keep(
    mut pipe: impl Read,
    name: &str,
    in_memory: usize,
    bar: &ProgressBar,
) -> Result<SpooledTempFile, Failure> {
    let named = std::env::var_os("TMPDIR").filter(|name| !name.is_empty());
    let directory = named.map_or_else(|| PathBuf::from(LARGE_FILES), PathBuf::from);
    let mut kept = spooled_tempfile_in(in_memory, &directory);
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(name, &error)),
        };
        kept.write_all(&buffer[..read]).map_err(|error| {
            Failure::failed(format!(
                "{name} cannot be kept in {} until it is checked: {error}. Nothing was stored. Name a directory with \
                 more room in TMPDIR, or enqueue a file instead of a pipe.",
                directory.display()
            ))
        })?;
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    Ok(kept)
}

/// As a file it can be told from a pipe, and read again.
fn duplicate_stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "cannot read {name}: {error}. Nothing was stored. See that it is there and may be read, and try again."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &mut Source) -> String {
        let mut text = String::new();
        source.reader().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_file_is_read_twice_from_where_it_stood() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"header\nrecord\n").unwrap();
        let content = Content::File { file, start: 7 };
        let mut source = Source { name: "file".to_owned(), content, bytes: 0 };
        assert_eq!([read(&mut source), read(&mut source)], ["record\n", "record\n"]);
        assert_eq!(source.measure().unwrap(), 7);
    }

    #[test]
    fn a_pipe_is_kept_and_read_twice_whether_it_fits_into_memory_or_not() {
        for in_memory in [3, 100] {
            let kept = keep(&b"1234567"[..], "pipe", in_memory, &ProgressBar::hidden()).unwrap();
            assert_eq!(kept.is_rolled(), in_memory < 7);
            let mut source = Source { name: "pipe".to_owned(), content: Content::Kept(kept), bytes: 0 };
            assert_eq!(source.measure().unwrap(), 7);
            assert_eq!([read(&mut source), read(&mut source)], ["1234567", "1234567"]);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let failure =
            Source::open(Path::new("/nowhere/records.ndjson"), Notes { json: false }).err().unwrap();
        assert!(failure.message.starts_with("cannot read /nowhere/records.ndjson: "), "{}", failure.message);
    }
}
