//! Names of users, for people.

use nix::unistd::{Uid, User};

/// The name of a user, or its number if the system does not know one.
pub(crate) fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}
