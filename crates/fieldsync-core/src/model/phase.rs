//! What the daemon does now.

use serde::{Deserialize, Serialize};
use strum::{Display, VariantArray};
use utoipa::ToSchema;

/// What the daemon does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, VariantArray, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Nothing to send.
    Idle,
    /// Sending.
    Syncing,
    /// Waiting to try again.
    Waiting,
    /// The server cannot be reached.
    Offline,
    /// Paused on request.
    Paused,
    /// Waiting for a network that is not metered, or for a charged battery.
    Deferred,
    /// The server does not accept the credential.
    AuthRequired,
    /// The configured server does not take batches, or no server is configured.
    Misconfigured,
}

impl Phase {
    /// All phases.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
}

/// What the planner waits for: the disk, or, in the phase `waiting`, a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// The back-off after a failure.
    BackOff,
    /// The server asked for a pause.
    ServerAsked,
    /// The circuit breaker is open.
    Breaker,
    /// The disk has no room for the planner's next operation, or reports errors.
    Disk,
}
