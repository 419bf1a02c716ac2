//! Reports when files may have changed, with inotify: nothing wakes up until something happens.
//!
//! Directories are watched, because a file that is replaced is another file: the directory of each file, and those of
//! all symbolic links of its path. If the path does not exist yet, this is the last directory that exists. A watch must
//! be set before the file is read. It reports one change: after it, the path may lead elsewhere, and a new watch is
//! needed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use crate::async_fd::{Registered, watch_readable};

/// Replacing a file takes several steps: how long to wait after the first one.
pub(crate) const SETTLE_TIME: Duration = Duration::from_millis(100);
/// The kernel's limit.
const SYMLINKS_MAX: usize = 40;

/// A watch on some files.
pub(crate) struct FileWatch {
    inotify: AsyncFd<Registered<Inotify>>,
    /// The watched names, each with its directory.
    names: BTreeSet<(WatchDescriptor, OsString)>,
}

impl FileWatch {
    /// Watches from now on.
    pub(crate) fn on<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let inotify = watch_readable(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?)?;
        let mut watch = Self { inotify, names: BTreeSet::new() };
        for path in paths {
            watch.watch_path(&std::path::absolute(path)?);
        }
        Ok(watch)
    }

    /// Ends when something happened to one of the files. The change may not be complete: see [`SETTLE_TIME`].
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = ready.try_io(|inotify| Ok(inotify.get_ref().owner().read_events()?));
            // An error of `try_io` means that there was nothing to read.
            if let Ok(events) = read
                && events?.iter().any(|event| self.is_relevant(event))
            {
                return Ok(());
            }
        }
    }

    /// Events of a directory itself and overflows have no name.
    fn is_relevant(&self, event: &InotifyEvent) -> bool {
        event.name.as_ref().is_none_or(|name| self.names.contains(&(event.wd, name.clone())))
    }

    /// Follows the path as the kernel does.
    fn watch_path(&mut self, path: &Path) {
        let mut at = PathBuf::from("/");
        let mut ahead: Vec<OsString> = path_names(path).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let is_plain = next.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            if ahead.is_empty() || !is_plain {
                self.watch_name(&at, &name);
            }
            if let Ok(target) = next.read_link() {
                links += 1;
                if links > SYMLINKS_MAX {
                    return;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(path_names(&target));
            } else if ahead.is_empty() || next.is_dir() {
                at = next;
            } else {
                tracing::info!("{} does not exist yet: waiting for {}", next.display(), path.display());
                return;
            }
        }
    }

    fn watch_name(&mut self, directory: &Path, name: &OsStr) {
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.get_ref().owner().add_watch(directory, events) {
            Ok(watch) => {
                self.names.insert((watch, name.to_owned()));
            }
            Err(error) => {
                tracing::info!(%error, "changes in {} are not noticed automatically", directory.display());
            }
        }
    }
}

/// The names of a path, the last one first.
fn path_names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().rev().filter_map(|step| match step {
        Component::Normal(_) | Component::ParentDir => Some(step.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
