//! Who calls, as the kernel tells, and what they may do.
//!
//! Whoever may open the socket may read and enqueue. Admin calls need root, the daemon's own
//! user, or a member of `ipc.admin_group`: a process that has the group, or a process of a user who was
//! put into it since.

use std::ffi::CString;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd};

use nix::unistd::{Group, Uid, User, geteuid, getgrouplist};
use tokio::net::UnixStream;

/// Groups of a process that are asked for; the system's own limit.
const MAX_GROUPS: usize = 65_536;

/// The process at the other end of the socket, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Peer {
    /// Of a connection; none when the kernel does not tell.
    pub(super) fn of(stream: &UnixStream) -> Option<Self> {
        let peer = stream.peer_cred().ok()?;
        Some(Self { uid: peer.uid(), gid: peer.gid(), groups: supplementary_groups(stream) })
    }

    /// Whether it may call admin endpoints.
    pub(super) fn is_admin(&self, admin_group: &str) -> bool {
        is_unlimited(self.uid) || self.is_member(admin_group)
    }

    /// An empty name is no group, even where the system knows one without a name.
    fn is_member(&self, name: &str) -> bool {
        if name.is_empty() {
            return false;
        }
        let Ok(Some(group)) = Group::from_name(name) else {
            return false;
        };
        let has_group = self.gid == group.gid.as_raw() || self.groups.contains(&group.gid.as_raw());
        has_group || is_member_by_now(self.uid, &group)
    }
}

/// Root and the daemon's own user: what limits each user does not limit them.
pub(super) fn is_unlimited(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn is_member_by_now(uid: u32, group: &Group) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    let Ok(user_name) = CString::new(user.name) else {
        return false;
    };
    getgrouplist(&user_name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}

/// None when the kernel does not tell.
fn supplementary_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups = vec![0; 32];
    // A second time with enough room, when the first did not have it.
    peer_groups(stream, &mut groups).or_else(|| peer_groups(stream, &mut groups)).unwrap_or_default()
}

/// Makes room when there was not enough.
#[expect(unsafe_code, reason = "no crate here knows this option of sockets")]
fn peer_groups(stream: &UnixStream, groups: &mut Vec<u32>) -> Option<Vec<u32>> {
    let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).ok()?;
    let fd = stream.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed and so open, and the kernel writes at most `length` bytes to `groups`.
    let failed = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let count = usize::try_from(length).ok()? / size_of::<u32>();
    if failed == 0 {
        return Some(groups.iter().copied().take(count).collect());
    }
    groups.resize(count.min(MAX_GROUPS), 0);
    None
}
