//! Tells when a file of the way may have changed, by inotify: nothing wakes up until something happens.
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

use super::Files;
use crate::config;
use crate::readable::readable;

/// Who replaces a file does several things to it, one after the other.
const SETTLES: Duration = Duration::from_millis(100);
/// As the kernel has it.
const MOST_LINKS: usize = 40;

/// Sets a watch on the files of a configuration.
pub struct Watch(Option<(Directories, AsyncFd<OwnedFd>)>);

impl Watch {
    /// From now on.
    pub fn on(config: &config::Server) -> Self {
        let watched = Directories::new().and_then(|mut directories| {
            for path in Files::of(config).all() {
                directories.follow(&std::path::absolute(path)?);
            }
            // None: not one wake-up for those who need no credential.
            if directories.names.is_empty() {
                return Ok(None);
            }
            let events = readable(directories.inotify.as_fd().try_clone_to_owned()?)?;
            Ok(Some((directories, events)))
        });
        Self(watched.unwrap_or_else(|error| {
            blind(&error);
            None
        }))
    }

    /// Ends once something happened to one of the files, and has settled.
    pub async fn changed(&self) {
        let Some((directories, events)) = &self.0 else { return std::future::pending().await };
        if let Err(error) = directories.happened(events).await {
            blind(&error);
            return std::future::pending().await;
        }
        tokio::time::sleep(SETTLES).await;
    }
}

/// It goes on as before there was a watch: by asking the server now and then.
fn blind(error: &io::Error) {
    tracing::warn!(%error, "a new credential is noticed only at the next try, or by: fieldsync sync");
}

struct Directories {
    inotify: Inotify,
    /// What is looked for, and where.
    names: BTreeSet<(WatchDescriptor, OsString)>,
}

impl Directories {
    fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, names: BTreeSet::new() })
    }

    async fn happened(&self, events: &AsyncFd<OwnedFd>) -> io::Result<()> {
        loop {
            let mut ready = events.readable().await?;
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
