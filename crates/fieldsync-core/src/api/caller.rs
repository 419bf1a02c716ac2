//! The part of the status about the user who requests it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Counts;

/// The user who requests the status, and this user's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    /// The user id, as reported by the kernel.
    pub uid: u32,
    /// Whether the user may call the endpoints for admins.
    pub admin: bool,
    /// This user's records by state; null while too many users have records to count each of them.
    #[schema(required = true)]
    pub records: Option<Counts>,
    /// How much of the queue this user uses, and how much is allowed.
    #[schema(required = true)]
    pub queue: Option<CallerQueue>,
}

/// How much of the queue one user uses, and how much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerQueue {
    /// Records that the server has not confirmed.
    pub records: u64,
    /// Their limit.
    pub max_records: u64,
    /// Payload bytes of these records.
    pub bytes: u64,
    /// Their limit.
    pub max_bytes: u64,
    /// Disk space of these records, estimated.
    pub disk_bytes: u64,
    /// Their limit.
    pub max_disk_bytes: u64,
}
