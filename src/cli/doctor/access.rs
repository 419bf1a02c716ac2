//! Who may do what with a file, by its owner and its mode: for users who are not the one that asks.
//!
//! Access lists are not looked at, so that a "no" is said only where the mode says so.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User as Entry, getegid, geteuid, getgrouplist, getgroups};

/// The bits of one class in a mode.
pub(super) const READ: u32 = 0o4;
pub(super) const WRITE: u32 = 0o2;
pub(super) const SEARCH: u32 = 0o1;

/// A user, and the groups whose rights it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) name: String,
    groups: BTreeSet<u32>,
}

impl User {
    /// Who runs this, with the groups of the login that it came from.
    pub(super) fn me() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        let uid = geteuid();
        Self { uid: uid.as_raw(), name: user_name(uid.as_raw()), groups: groups.map(Gid::as_raw).collect() }
    }

    /// As the user database knows it.
    pub(super) fn of(uid: u32) -> Self {
        let entry = Entry::from_uid(Uid::from_raw(uid)).ok().flatten();
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

    /// Whether a file with this owner and mode gives it these rights.
    pub(super) fn may(&self, rights: u32, file: Owned) -> bool {
        let class = match file {
            _ if self.is_root() => return true,
            Owned { uid, .. } if uid == self.uid => 6,
            Owned { gid, .. } if self.is_in(gid) => 3,
            Owned { .. } => 0,
        };
        file.mode >> class & rights == rights
    }

    /// Whether it may read a file, and enter every directory on the way there.
    pub(super) fn may_read(&self, path: &Path) -> io::Result<bool> {
        let path = path.canonicalize()?;
        let file = Owned::of(&fs::metadata(&path)?);
        for directory in path.ancestors().skip(1) {
            if !self.may(SEARCH, Owned::of(&fs::metadata(directory)?)) {
                return Ok(false);
            }
        }
        Ok(self.may(READ, file))
    }
}

/// What decides who may do what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl Owned {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 }
    }
}

/// The name of a user, or its number where it has none.
pub(super) fn user_name(uid: u32) -> String {
    let entry = Entry::from_uid(Uid::from_raw(uid)).ok().flatten();
    entry.map_or_else(|| uid.to_string(), |entry| entry.name)
}

/// As [`user_name`], of a group.
pub(super) fn group_name(gid: u32) -> String {
    let entry = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    entry.map_or_else(|| gid.to_string(), |entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_of_the_mode_holds_for_each_user() {
        let user = |uid, groups: &[u32]| User {
            uid,
            name: uid.to_string(),
            groups: groups.iter().copied().collect(),
        };
        let file = |mode| Owned { uid: 7, gid: 70, mode };
        for (user, mode, may) in [
            (user(7, &[]), 0o400, true),
            (user(7, &[70]), 0o040, false),
            (user(8, &[70]), 0o040, true),
            (user(8, &[70]), 0o604, false),
            (user(8, &[]), 0o604, true),
            (user(8, &[]), 0o660, false),
            (user(0, &[]), 0o000, true),
        ] {
            assert_eq!(user.may(READ, file(mode)), may, "{user:?} {mode:o}");
        }
    }

    #[test]
    fn a_directory_on_the_way_may_be_what_is_closed() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (inner, somebody) = (directory.path().join("inner"), User::of(4_000_000));
        fs::create_dir(&inner).unwrap();
        let path = inner.join("token");
        fs::write(&path, "").unwrap();
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        open(&path, 0o644);
        for (mode, may) in [(0o700, false), (0o711, true)] {
            open(directory.path(), 0o755);
            open(&inner, mode);
            assert_eq!(somebody.may_read(&path).unwrap(), may, "{mode:o}");
        }
        open(&path, 0o640);
        assert!(!somebody.may_read(&path).unwrap());
    }
}
