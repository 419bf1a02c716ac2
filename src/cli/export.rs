//! Where an export goes: standard output, or a file that is whole or not there at all.
//!
//! Exports hold records and are often made by root, in directories where others may write. So a symbolic link is
//! never followed, and a pipe or device is used only when it belongs to the caller or to root. What is at the path is
//! looked at through a descriptor that stays on it (`O_PATH`), and that descriptor is what is opened.

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

use super::context::Context;
use super::failure::Failure;
use super::json_text::EscapingWriter;
use super::words::{count, newlines};
use crate::exit;

/// The time that a program has to open the other end of a named pipe.
const PIPE_READER_TIMEOUT: Duration = Duration::from_secs(10);
/// The descriptors of this process, by number.
const OWN_DESCRIPTORS: &str = "/proc/self/fd";
const STANDARD_OUTPUT: &str = "1";

/// A destination of NDJSON. A file is readable by its owner alone: records are nobody else's business.
pub(crate) struct Target<'a> {
    place: Place<'a>,
    lines: u64,
}

enum Place<'a> {
    Out(EscapingWriter<BufWriter<&'a mut dyn Write>>),
    /// A pipe or a device, which cannot be renamed over.
    Device(EscapingWriter<BufWriter<File>>, PathBuf),
    File(EscapingWriter<BufWriter<NamedTempFile>>, PathBuf),
}

/// What was written.
pub(crate) struct Written {
    lines: u64,
    file: Option<PathBuf>,
}

/// What is at a path.
enum Found {
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

impl<'a> Target<'a> {
    /// `None`, `-` and `/dev/stdout` are standard output.
    pub(crate) fn open(file: Option<&Path>, out: &'a mut dyn Write) -> Result<Self, Failure> {
        let place = match file {
            Some(path) if path != Path::new("-") => open_path(path, out)?,
            _ => standard_output(out),
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

fn standard_output(out: &mut dyn Write) -> Place<'_> {
    Place::Out(EscapingWriter::new(BufWriter::new(out)))
}

fn device<'a>(file: File, path: &Path) -> Place<'a> {
    Place::Device(EscapingWriter::new(BufWriter::new(file)), path.to_owned())
}

fn open_path<'a>(path: &Path, out: &'a mut dyn Write) -> Result<Place<'a>, Failure> {
    let failed = |error: io::Error| cannot_write(path, &error);
    match find(path).map_err(failed)? {
        Found::Nothing | Found::RegularFile => {
            let file = NamedTempFile::new_in(directory_of(path)).map_err(failed)?;
            Ok(Place::File(EscapingWriter::new(BufWriter::new(file)), path.to_owned()))
        }
        Found::OwnDescriptor(name) if name.ends_with(STANDARD_OUTPUT) => Ok(standard_output(out)),
        Found::OwnDescriptor(name) => {
            let file = File::options().append(true).open(name).map_err(failed)?;
            Ok(device(file, path))
        }
        Found::Link { to } => Err(refused(
            path,
            &format!("is a symbolic link to {}", to.display()),
            "Name the file itself, or remove the link",
        )),
        Found::Other(_, metadata) if metadata.is_dir() => {
            Err(refused(path, "is a directory", "Name a file in it"))
        }
        Found::Other(_, metadata) if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() => {
            Err(refused(
                path,
                &format!("is not a file and belongs to another user (uid {})", metadata.uid()),
                "Name a file, or a pipe of your own",
            ))
        }
        Found::Other(found, metadata) => {
            let file = if metadata.file_type().is_fifo() {
                open_pipe(&found).map_err(failed)?.ok_or_else(|| {
                    refused(path, "is a pipe, and no program reads from it", "Start the reader first")
                })?
            } else {
                File::options().write(true).open(name_of(&found)).map_err(failed)?
            };
            Ok(device(file, path))
        }
    }
}

/// Looks at what is at the path, without opening it and without following it.
fn find(path: &Path) -> io::Result<Found> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let found = match File::options().read(true).custom_flags(flags.bits()).open(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let metadata = found.metadata()?;
    if metadata.is_file() {
        return Ok(Found::RegularFile);
    }
    if !metadata.is_symlink() {
        return Ok(Found::Other(found, metadata));
    }
    let to = fs::read_link(path)?;
    Ok(own_descriptor(path, &to).map_or(Found::Link { to }, Found::OwnDescriptor))
}

/// `/dev/stdout`, and what a shell makes of `>(…)`: a link that leads to a descriptor that the caller handed over.
fn own_descriptor(link: &Path, to: &Path) -> Option<PathBuf> {
    let own = fs::canonicalize(OWN_DESCRIPTORS).ok()?;
    let is_own =
        |path: &Path| path.parent().and_then(|parent| fs::canonicalize(parent).ok()).as_ref() == Some(&own);
    let name = [link, to].into_iter().find(|path| is_own(path))?.file_name()?;
    Some(Path::new(OWN_DESCRIPTORS).join(name))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name by which exactly this file is opened again, whatever is at its path by now.
fn name_of(found: &File) -> PathBuf {
    Path::new(OWN_DESCRIPTORS).join(found.as_raw_fd().to_string())
}

/// Opens a named pipe; none when nothing opens its other end in time. The thread that waits for it ends with the
/// process.
fn open_pipe(found: &File) -> io::Result<Option<File>> {
    let name = name_of(found);
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("pipe".into()).spawn(move || {
        // Nobody waits for it after the time limit.
        drop(sender.send(File::options().write(true).open(name)));
    })?;
    receiver.recv_timeout(PIPE_READER_TIMEOUT).ok().transpose()
}

fn persist(writer: EscapingWriter<BufWriter<NamedTempFile>>, path: &Path) -> io::Result<()> {
    let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn refused(path: &Path, what: &str, next: &str) -> Failure {
    let path = path.display();
    Failure::new(
        exit::FAILED,
        format!(
            "{path} {what}: it was not written, and the daemon's records are untouched. {next}, or use - for standard output."
        ),
    )
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot write {}: {error}. The daemon's records are untouched.", path.display());
    Failure::new(exit::FAILED, message)
}
