//! Who calls, as the kernel tells, and what they may do.
//!
//! Whoever may open the socket may read and enqueue. Admin calls need root, the daemon's own
//! user, or a member of `ipc.admin_group`.

use std::ffi::CString;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use nix::unistd::{Group, Uid, User, geteuid, getgrouplist};

use super::error::ApiError;

/// The process at the other end of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Peer {
    /// Whether it may call admin endpoints.
    pub(super) fn is_admin(self, admin_group: &str) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw() || self.is_member(admin_group)
    }

    fn is_member(self, name: &str) -> bool {
        let Ok(Some(group)) = Group::from_name(name) else {
            return false;
        };
        if self.gid == group.gid.as_raw() {
            return true;
        }
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(self.uid)) else {
            return false;
        };
        let Ok(user_name) = CString::new(user.name) else {
            return false;
        };
        getgrouplist(&user_name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
    }
}

impl FromRequest for Peer {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let peer = request.conn_data::<Self>().copied();
        ready(peer.ok_or_else(|| ApiError::not_permitted("the kernel does not tell who calls")))
    }
}
