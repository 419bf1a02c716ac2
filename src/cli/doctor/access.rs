//! Which rights a user has on a file, by owner and mode. The user may be another one than the caller.
//!
//! Access control lists are ignored: a missing right is reported only if the mode denies it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User as PasswdEntry, getegid, geteuid, getgrouplist, getgroups};

/// The bits of one class in a mode.
pub(super) const READ_BIT: u32 = 0o4;
pub(super) const WRITE_BIT: u32 = 0o2;
pub(super) const SEARCH_BIT: u32 = 0o1;

/// A user and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) name: String,
    groups: BTreeSet<u32>,
}

impl User {
    /// The user of this process, with the groups of its login session.
    pub(super) fn current() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        let uid = geteuid();
        Self { uid: uid.as_raw(), name: user_name(uid.as_raw()), groups: groups.map(Gid::as_raw).collect() }
    }

    /// From the user database.
    pub(super) fn from_uid(uid: u32) -> Self {
        let entry = PasswdEntry::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = entry.and_then(|entry| {
            let name = CString::new(entry.name).ok()?;
            getgrouplist(&name, entry.gid).ok()
        });
        let groups = groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        Self { uid, name: user_name(uid), groups }
    }

    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub(super) fn is_in(&self, group: u32) -> bool {
        self.groups.contains(&group)
    }

    /// Whether a file with this owner and mode gives the user these rights.
    pub(super) fn has_rights(&self, rights: u32, file: FileOwner) -> bool {
        let class = match file {
            _ if self.is_root() => return true,
            FileOwner { uid, .. } if uid == self.uid => 6,
            FileOwner { gid, .. } if self.is_in(gid) => 3,
            FileOwner { .. } => 0,
        };
        file.mode >> class & rights == rights
    }

    /// Whether the user may read a file and enter every directory of its path.
    pub(super) fn may_read(&self, path: &Path) -> io::Result<bool> {
        let path = path.canonicalize()?;
        let file = FileOwner::from_metadata(&fs::metadata(&path)?);
        for directory in path.ancestors().skip(1) {
            if !self.has_rights(SEARCH_BIT, FileOwner::from_metadata(&fs::metadata(directory)?)) {
                return Ok(false);
            }
        }
        Ok(self.has_rights(READ_BIT, file))
    }
}

/// Owner and mode of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileOwner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl FileOwner {
    pub(super) fn from_metadata(metadata: &Metadata) -> Self {
        Self { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 }
    }
}

/// The name of a user, or its number if it has no name.
pub(super) fn user_name(uid: u32) -> String {
    let entry = PasswdEntry::from_uid(Uid::from_raw(uid)).ok().flatten();
    entry.map_or_else(|| uid.to_string(), |entry| entry.name)
}

/// The name of a group, or its number if it has no name.
pub(super) fn group_name(gid: u32) -> String {
    let entry = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    entry.map_or_else(|| gid.to_string(), |entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_class_of_the_mode_applies_to_a_user() {
        let user = |uid, groups: &[u32]| User {
            uid,
            name: uid.to_string(),
            groups: groups.iter().copied().collect(),
        };
        let file = |mode| FileOwner { uid: 7, gid: 70, mode };
        for (user, mode, may) in [
            (user(7, &[]), 0o400, true),
            (user(7, &[70]), 0o040, false),
            (user(8, &[70]), 0o040, true),
            (user(8, &[70]), 0o604, false),
            (user(8, &[]), 0o604, true),
            (user(8, &[]), 0o660, false),
            (user(0, &[]), 0o000, true),
        ] {
            assert_eq!(user.has_rights(READ_BIT, file(mode)), may, "{user:?} {mode:o}");
        }
    }

    #[test]
    fn a_directory_of_the_path_may_be_the_one_that_denies_access() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (inner, stranger) = (directory.path().join("inner"), User::from_uid(4_000_000));
        fs::create_dir(&inner).unwrap();
        let path = inner.join("token");
        fs::write(&path, "").unwrap();
        let set_mode =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set_mode(&path, 0o644);
        for (mode, may) in [(0o700, false), (0o711, true)] {
            set_mode(directory.path(), 0o755);
            set_mode(&inner, mode);
            assert_eq!(stranger.may_read(&path).unwrap(), may, "{mode:o}");
        }
        set_mode(&path, 0o640);
        assert!(!stranger.may_read(&path).unwrap());
    }
}
