//! Identifies callers by the credentials that the kernel reports, and decides who is an admin.
//!
//! Every process that may open the socket may read and enqueue. Admin calls are for root, the daemon's own user, and
//! members of `ipc.admin_group`. A process counts as a member if it has the group, or if its user joined the group later.

use std::ffi::CString;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd};

use nix::unistd::{Group, Uid, User, geteuid, getgrouplist};
use tokio::net::UnixStream;

/// The system's own limit.
const GROUPS_MAX: usize = 65_536;

/// The process at the other end of the socket, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Peer {
    /// None if the kernel does not report the credentials.
    pub(super) fn from_stream(stream: &UnixStream) -> Option<Self> {
        let peer = stream.peer_cred().ok()?;
        Some(Self { uid: peer.uid(), gid: peer.gid(), groups: supplementary_groups(stream) })
    }

    pub(super) fn is_admin(&self, admin_group: &str) -> bool {
        is_unlimited(self.uid) || self.is_member(admin_group)
    }

    /// An empty name matches no group, even if the system has a group without a name.
    fn is_member(&self, name: &str) -> bool {
        if name.is_empty() {
            return false;
        }
        let Ok(Some(group)) = Group::from_name(name) else {
            return false;
        };
        let has_group = self.gid == group.gid.as_raw() || self.groups.contains(&group.gid.as_raw());
        has_group || has_joined_group(self.uid, &group)
    }
}

/// Per-user limits do not apply to root and the daemon's own user.
pub(super) fn is_unlimited(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn has_joined_group(uid: u32, group: &Group) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    let Ok(user_name) = CString::new(user.name) else {
        return false;
    };
    getgrouplist(&user_name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}

/// Empty if the kernel does not report them.
fn supplementary_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups = vec![0; 32];
    // The first call enlarges the buffer if it was too small.
    read_peer_groups(stream, &mut groups)
        .or_else(|| read_peer_groups(stream, &mut groups))
        .unwrap_or_default()
}

/// None if the buffer was too small. It is enlarged then.
#[expect(unsafe_code, reason = "no crate in use has this socket option")]
fn read_peer_groups(stream: &UnixStream, groups: &mut Vec<u32>) -> Option<Vec<u32>> {
    let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).ok()?;
    let fd = stream.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed, so it is open. The kernel writes at most `length` bytes to `groups`.
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
    groups.resize(count.min(GROUPS_MAX), 0);
    None
}
