//! What the status says of the user who asks for it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Counts;

/// The user who asks for the status, and what the daemon keeps of this user's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    /// The user, as the kernel tells.
    pub uid: u32,
    /// Whether it may call what is for admins.
    pub admin: bool,
    /// Counts of its records by state; null while too many users have records for each to be counted.
    #[schema(required = true)]
    pub records: Option<Counts>,
    /// What its records take of the queue, and how much of it this user may fill.
    #[schema(required = true)]
    pub queue: Option<CallerQueue>,
}

/// What one user takes of the queue, and the most that it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerQueue {
    /// Records that are not confirmed.
    pub records: u64,
    /// The limit.
    pub max_records: u64,
    /// Payload bytes that are not confirmed.
    pub bytes: u64,
    /// The limit.
    pub max_bytes: u64,
    /// What the records that are not confirmed take on the disk, estimated.
    pub disk_bytes: u64,
    /// The limit.
    pub max_disk_bytes: u64,
}
