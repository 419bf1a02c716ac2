//! Tells when files may have changed, by inotify: nothing wakes up until something happens.
//!
//! What is watched are directories, because a file that is replaced is another file. Of each path these
//! are the directory of the file, and those of all symbolic links on the way to it; where the way ends
//! early, the last directory that is there. A watch is set before the look that needs it. It is good
//! for one change: afterwards the way may be another, and a new watch is set.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use crate::async_fd::readable;

/// Who replaces a file does several things to it, one after the other.
pub(crate) const SETTLES: Duration = Duration::from_millis(100);
/// As the kernel has it.
const MOST_LINKS: usize = 40;

/// A watch on some files.
pub(crate) struct FileWatch {
    inotify: Inotify,
    events: AsyncFd<OwnedFd>,
    /// What is looked for, and where.
    names: BTreeSet<(WatchDescriptor, OsString)>,
}

impl FileWatch {
    /// From now on.
    pub(crate) fn on<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = readable(inotify.as_fd().try_clone_to_owned()?)?;
        let mut watch = Self { inotify, events, names: BTreeSet::new() };
        for path in paths {
            watch.follow(&std::path::absolute(path)?);
        }
        Ok(watch)
    }

    /// Ends once something happened to one of the files, which may not be all of it yet: see [`SETTLES`].
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            let read = ready.try_io(|_| Ok(self.inotify.read_events()?));
            // Else nothing was there after all.
            if let Ok(events) = read
                && events?.iter().any(|event| self.concerns(event))
            {
                return Ok(());
            }
        }
    }

    /// What happens to a directory itself, or was too much to tell, has no name.
    fn concerns(&self, event: &InotifyEvent) -> bool {
        event.name.as_ref().is_none_or(|name| self.names.contains(&(event.wd, name.clone())))
    }

    /// Goes the way to a file as the kernel does.
    fn follow(&mut self, path: &Path) {
        let mut at = PathBuf::from("/");
        let mut ahead: Vec<OsString> = steps(path).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let is_plain = next.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            if ahead.is_empty() || !is_plain {
                self.watch(&at, &name);
            }
            if let Ok(target) = next.read_link() {
                links += 1;
                if links > MOST_LINKS {
                    return;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(steps(&target));
            } else if ahead.is_empty() || next.is_dir() {
                at = next;
            } else {
                tracing::info!("{} is not there yet: {} is waited for", next.display(), path.display());
                return;
            }
        }
    }

    fn watch(&mut self, directory: &Path, name: &OsStr) {
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(directory, events) {
            Ok(watch) => {
                self.names.insert((watch, name.to_owned()));
            }
            Err(error) => {
                tracing::info!(%error, "changes in {} are not noticed at once", directory.display());
            }
        }
    }
}

/// The names on a way, the last one first.
fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().rev().filter_map(|step| match step {
        Component::Normal(_) | Component::ParentDir => Some(step.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
