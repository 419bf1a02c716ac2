//! Writes an export or an archive to standard output, or to a file that is either complete or absent.
//!
//! Exports contain records, and root often writes them in directories where others may write. So symbolic links are
//! never followed, and a pipe or device must belong to the caller or to root. The path is examined through a descriptor
//! (`O_PATH`), and exactly that descriptor is opened.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use tempfile::NamedTempFile;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{count, count_newlines};
use super::json_text::EscapingWriter;
use crate::exit;

/// How long to wait for a program that opens the other end of a named pipe.
const PIPE_READER_TIMEOUT: Duration = Duration::from_secs(10);
/// The descriptors of this process, by number.
const OWN_DESCRIPTORS_DIR: &str = "/proc/self/fd";
const STDOUT_DESCRIPTOR: &str = "1";

/// A destination of text, such as NDJSON, or of an archive. Only its owner may read a file.
pub(crate) struct ExportTarget<'a> {
    destination: Destination<'a>,
    lines: u64,
}

enum Destination<'a> {
    Stdout(ContentWriter<BufWriter<&'a mut dyn Write>>),
    /// A pipe or a device, which cannot be replaced by a rename.
    Device(ContentWriter<BufWriter<File>>, PathBuf),
    File(ContentWriter<BufWriter<NamedTempFile>>, PathBuf, ExistingFile),
}

/// What happens to a file that exists at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExistingFile {
    Replace,
    Keep,
}

/// What is written.
#[derive(Clone, Copy)]
enum Content {
    /// Its hidden characters are escaped.
    Json,
    /// Its bytes stay as they are.
    Archive,
}

enum ContentWriter<W> {
    Json(EscapingWriter<W>),
    Archive(W),
}

impl<W: Write> ContentWriter<W> {
    fn new(content: Content, inner: W) -> Self {
        match content {
            Content::Json => Self::Json(EscapingWriter::new(inner)),
            Content::Archive => Self::Archive(inner),
        }
    }

    /// Flushes, and returns the inner writer.
    fn finish(self) -> io::Result<W> {
        match self {
            Self::Json(writer) => writer.finish(),
            Self::Archive(mut inner) => {
                inner.flush()?;
                Ok(inner)
            }
        }
    }
}

impl<W: Write> Write for ContentWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Json(writer) => writer.write(bytes),
            Self::Archive(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Json(writer) => writer.flush(),
            Self::Archive(inner) => inner.flush(),
        }
    }
}

/// What was written.
pub(crate) struct ExportResult {
    lines: u64,
    file: Option<PathBuf>,
}

/// The kind of file at a path.
enum PathKind {
    Nothing,
    RegularFile,
    Link {
        to: PathBuf,
    },
    /// A descriptor of this process, under its name in `/proc`.
    OwnDescriptor(PathBuf),
    /// A pipe, a device, a socket or a directory.
    Other(File, Metadata),
}

impl<'a> ExportTarget<'a> {
    /// `None`, `-` and `/dev/stdout` are standard output.
    pub(crate) fn open(file: Option<&Path>, out: &'a mut dyn Write) -> Result<Self, CommandFailure> {
        let place = match file {
            Some(path) if path != Path::new("-") => {
                open_destination(path, out, Content::Json, ExistingFile::Replace)?
            }
            _ => stdout_destination(out, Content::Json),
        };
        Ok(Self { destination: place, lines: 0 })
    }

    /// As [`Self::open`], for bytes that are not text.
    pub(crate) fn open_archive(
        path: &Path,
        out: &'a mut dyn Write,
        existing: ExistingFile,
    ) -> Result<Self, CommandFailure> {
        let destination = match path {
            stdout if stdout == Path::new("-") => stdout_destination(out, Content::Archive),
            path => open_destination(path, out, Content::Archive, existing)?,
        };
        Ok(Self { destination, lines: 0 })
    }

    pub(crate) fn write_line(&mut self, text: &str) -> Result<(), CommandFailure> {
        self.write_bytes(text.as_bytes())?;
        self.write_bytes(b"\n")
    }

    /// Any part of the output.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), CommandFailure> {
        self.lines += count_newlines(bytes);
        match &mut self.destination {
            Destination::Stdout(writer) => Ok(writer.write_all(bytes)?),
            Destination::Device(writer, path) => {
                writer.write_all(bytes).map_err(|error| write_failure(path, &error))
            }
            Destination::File(writer, path, _) => {
                writer.write_all(bytes).map_err(|error| write_failure(path, &error))
            }
        }
    }

    /// Makes the file durable and visible.
    pub(crate) fn finish(self) -> Result<ExportResult, CommandFailure> {
        let lines = self.lines;
        let file = match self.destination {
            Destination::Stdout(mut writer) => {
                writer.flush()?;
                None
            }
            Destination::Device(mut writer, path) => {
                writer.flush().map_err(|error| write_failure(&path, &error))?;
                Some(path)
            }
            Destination::File(writer, path, existing) => {
                persist_file(writer, &path, existing)?;
                Some(path)
            }
        };
        Ok(ExportResult { lines, file })
    }
}

impl ExportResult {
    /// The file that was written; `None` for standard output.
    pub(crate) fn into_file(self) -> Option<PathBuf> {
        self.file
    }

    /// Reports the file, unless the records went to standard output.
    pub(crate) fn report(self, context: &mut CommandContext<'_>) -> Result<(), CommandFailure> {
        let Some(file) = self.file else {
            return Ok(());
        };
        if context.json {
            let report = serde_json::json!({ "records": self.lines, "file": file.to_string_lossy() });
            return context.print_line(report.to_string());
        }
        context.print_line(format!("{} written to {}", count(self.lines, "record"), file.display()))
    }

    /// Reports the file of something that does not consist of records.
    pub(crate) fn report_file(
        self,
        context: &mut CommandContext<'_>,
        what: &str,
    ) -> Result<(), CommandFailure> {
        let Some(file) = self.file else {
            return Ok(());
        };
        if context.json {
            return context.print_line(serde_json::json!({ "file": file.to_string_lossy() }).to_string());
        }
        context.print_line(format!("{what} was written to {}", file.display()))
    }
}

impl Write for ExportTarget<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.destination {
            Destination::Stdout(writer) => writer.write(bytes),
            Destination::Device(writer, _) => writer.write(bytes),
            Destination::File(writer, ..) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.destination {
            Destination::Stdout(writer) => writer.flush(),
            Destination::Device(writer, _) => writer.flush(),
            Destination::File(writer, ..) => writer.flush(),
        }
    }
}

fn stdout_destination(out: &mut dyn Write, content: Content) -> Destination<'_> {
    Destination::Stdout(ContentWriter::new(content, BufWriter::new(out)))
}

fn device_destination<'a>(file: File, path: &Path, content: Content) -> Destination<'a> {
    Destination::Device(ContentWriter::new(content, BufWriter::new(file)), path.to_owned())
}

fn open_destination<'a>(
    path: &Path,
    out: &'a mut dyn Write,
    content: Content,
    existing: ExistingFile,
) -> Result<Destination<'a>, CommandFailure> {
    let failed = |error: io::Error| write_failure(path, &error);
    match inspect_path(path).map_err(failed)? {
        PathKind::RegularFile if existing == ExistingFile::Keep => Err(refuse_existing(path)),
        PathKind::Nothing | PathKind::RegularFile => {
            let file = NamedTempFile::new_in(parent_dir(path)).map_err(failed)?;
            let writer = ContentWriter::new(content, BufWriter::new(file));
            Ok(Destination::File(writer, path.to_owned(), existing))
        }
        PathKind::OwnDescriptor(name) if name.ends_with(STDOUT_DESCRIPTOR) => {
            Ok(stdout_destination(out, content))
        }
        PathKind::OwnDescriptor(name) => {
            let file = File::options().append(true).open(name).map_err(failed)?;
            Ok(device_destination(file, path, content))
        }
        PathKind::Link { to } => Err(refuse_path(
            path,
            &format!("is a symbolic link to {}", to.display()),
            "Name the file itself, or remove the link",
        )),
        PathKind::Other(_, metadata) if metadata.is_dir() => {
            Err(refuse_path(path, "is a directory", "Name a file in it"))
        }
        PathKind::Other(_, metadata) if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() => {
            Err(refuse_path(
                path,
                &format!("is not a file and belongs to another user (uid {})", metadata.uid()),
                "Name a file, or a pipe of your own",
            ))
        }
        PathKind::Other(found, metadata) => {
            let file = if metadata.file_type().is_fifo() {
                open_pipe(&found).map_err(failed)?.ok_or_else(|| {
                    refuse_path(path, "is a pipe, and no program reads from it", "Start the reader first")
                })?
            } else {
                File::options().write(true).open(descriptor_path(&found)).map_err(failed)?
            };
            Ok(device_destination(file, path, content))
        }
    }
}

/// Examines the path without opening it and without following a link.
fn inspect_path(path: &Path) -> io::Result<PathKind> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let found = match File::options().read(true).custom_flags(flags.bits()).open(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PathKind::Nothing),
        Err(error) => return Err(error),
    };
    let metadata = found.metadata()?;
    if metadata.is_file() {
        return Ok(PathKind::RegularFile);
    }
    if !metadata.is_symlink() {
        return Ok(PathKind::Other(found, metadata));
    }
    let to = fs::read_link(path)?;
    Ok(own_descriptor(path, &to).map_or(PathKind::Link { to }, PathKind::OwnDescriptor))
}

/// `/dev/stdout`, or `>(…)` of a shell: a link to a descriptor of this process.
fn own_descriptor(link: &Path, to: &Path) -> Option<PathBuf> {
    let own = fs::canonicalize(OWN_DESCRIPTORS_DIR).ok()?;
    let is_own =
        |path: &Path| path.parent().and_then(|parent| fs::canonicalize(parent).ok()).as_ref() == Some(&own);
    let name = [link, to].into_iter().find(|path| is_own(path))?.file_name()?;
    Some(Path::new(OWN_DESCRIPTORS_DIR).join(name))
}

fn parent_dir(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path that opens exactly this file, whatever is at its original path now.
fn descriptor_path(found: &File) -> PathBuf {
    Path::new(OWN_DESCRIPTORS_DIR).join(found.as_raw_fd().to_string())
}

/// Opens a named pipe. `None` if no program opens its other end in time. The waiting thread ends with the process.
fn open_pipe(found: &File) -> io::Result<Option<File>> {
    let name = descriptor_path(found);
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("pipe".into()).spawn(move || {
        // After the timeout, the receiver is gone.
        drop(sender.send(File::options().write(true).open(name)));
    })?;
    receiver.recv_timeout(PIPE_READER_TIMEOUT).ok().transpose()
}

fn persist_file(
    writer: ContentWriter<BufWriter<NamedTempFile>>,
    path: &Path,
    existing: ExistingFile,
) -> Result<(), CommandFailure> {
    let sync = || -> io::Result<NamedTempFile> {
        let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = sync().map_err(|error| write_failure(path, &error))?;
    let persisted = match existing {
        ExistingFile::Replace => file.persist(path),
        ExistingFile::Keep => file.persist_noclobber(path),
    };
    persisted.map(drop).map_err(|failed| match failed.error.kind() {
        io::ErrorKind::AlreadyExists => refuse_existing(path),
        _ => write_failure(path, &failed.error),
    })
}

fn refuse_existing(path: &Path) -> CommandFailure {
    refuse_path(path, "exists", "Name another file, replace it with --force")
}

fn refuse_path(path: &Path, what: &str, next: &str) -> CommandFailure {
    let path = path.display();
    CommandFailure::new(
        exit::FAILED,
        format!(
            "{path} {what}: it was not written, and the daemon's records are untouched. {next}, or use - for standard output."
        ),
    )
}

fn write_failure(path: &Path, error: &io::Error) -> CommandFailure {
    let message = format!("cannot write {}: {error}. The daemon's records are untouched.", path.display());
    CommandFailure::new(exit::FAILED, message)
}
