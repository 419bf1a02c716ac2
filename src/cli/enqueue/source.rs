//! Where records come from. Files are read twice; a pipe can be read once only, and is kept in memory
//! as far as that is reasonable.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use crate::cli::context::say;
use crate::cli::failure::Failure;
use crate::cli::words::plain;

/// A pipe up to this long is checked whole before any of it is sent.
pub(super) const MAX_HELD: u64 = 8 << 20;

pub(super) struct Source {
    /// For messages.
    pub(super) name: String,
    content: Content,
}

enum Content {
    /// A file, from where it stood when it was handed over.
    File { file: File, start: u64 },
    /// All of a pipe.
    Held(Vec<u8>),
    /// The beginning of a pipe, and the pipe.
    Flowing { head: Vec<u8>, rest: File },
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let standard_input = path == Path::new("-");
        let (name, file) = if standard_input {
            ("standard input".to_owned(), duplicate_stdin())
        } else {
            (plain(&path.to_string_lossy()).into_owned(), File::open(path))
        };
        if standard_input && io::stdin().is_terminal() {
            say("Reading records from the terminal, one a line; Ctrl-D ends them.");
        }
        let content = file.and_then(|file| Content::of(file, MAX_HELD));
        match content {
            Ok(content) => Ok(Self { name, content }),
            Err(error) => Err(unreadable(&name, &error)),
        }
    }

    /// Whether it can be read twice.
    pub(super) fn can_repeat(&self) -> bool {
        !matches!(self.content, Content::Flowing { .. })
    }

    /// From the beginning; a second time only when it [can repeat](Self::can_repeat).
    pub(super) fn reader(&self) -> Result<Box<dyn BufRead + '_>, Failure> {
        match &self.content {
            Content::File { file, start } => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(*start)).map_err(|error| unreadable(&self.name, &error))?;
                Ok(Box::new(BufReader::with_capacity(64 << 10, file)))
            }
            Content::Held(bytes) => Ok(Box::new(bytes.as_slice())),
            Content::Flowing { head, rest } => {
                Ok(Box::new(head.as_slice().chain(BufReader::with_capacity(64 << 10, rest))))
            }
        }
    }
}

impl Content {
    fn of(mut file: File, max_held: u64) -> io::Result<Self> {
        if file.metadata()?.is_file() {
            let start = file.stream_position()?;
            return Ok(Self::File { file, start });
        }
        let mut head = Vec::new();
        (&mut file).take(max_held + 1).read_to_end(&mut head)?;
        if head.len() as u64 <= max_held {
            Ok(Self::Held(head))
        } else {
            Ok(Self::Flowing { head, rest: file })
        }
    }
}

/// As a file it can be told from a pipe, and read again.
fn duplicate_stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {name}: {error}. Nothing was stored."))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    fn read(source: &mut Source) -> String {
        let mut text = String::new();
        source.reader().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn pipe(text: &str, max_held: u64) -> Source {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        let content = Content::of(File::from(OwnedFd::from(reader)), max_held).unwrap();
        Source { name: "standard input".to_owned(), content }
    }

    #[test]
    fn a_file_is_read_twice_from_where_it_stood() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"header\nrecord\n").unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        let content = Content::of(file, MAX_HELD).unwrap();
        let mut source = Source { name: "file".to_owned(), content };
        assert!(source.can_repeat());
        assert_eq!([read(&mut source), read(&mut source)], ["record\n", "record\n"]);
    }

    #[test]
    fn a_short_pipe_is_held_and_a_long_one_flows() {
        let mut short = pipe("12345", 5);
        assert!(short.can_repeat());
        assert_eq!([read(&mut short), read(&mut short)], ["12345", "12345"]);
        let mut long = pipe("1234567", 5);
        assert!(!long.can_repeat());
        assert_eq!(read(&mut long), "1234567");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let failure = Source::open(Path::new("/nowhere/records.ndjson")).err().unwrap();
        assert!(failure.message.starts_with("cannot read /nowhere/records.ndjson: "), "{}", failure.message);
    }
}
