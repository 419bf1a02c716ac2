//! How many records there are in each state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Number of records in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Waiting to be sent.
    pub pending: u64,
    /// In a batch that is being sent.
    pub syncing: u64,
    /// Failed, and will be sent again.
    pub failed: u64,
    /// Confirmed by the server, as far as their receipts are still kept.
    pub synced: u64,
    /// Under review.
    pub quarantined: u64,
}
