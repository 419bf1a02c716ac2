//! What the daemon does now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the daemon does now, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing to send.
    Idle,
    /// Sending.
    Syncing,
    /// Backing off.
    Waiting,
    /// The server cannot be reached.
    Offline,
    /// On request.
    Paused,
    /// Until a better link or more charge.
    Deferred,
    /// The server does not let us in.
    AuthRequired,
    /// The configuration leads nowhere.
    Misconfigured,
}

/// What the planner waits for: the disk, or, in the phase `waiting`, a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// Something failed, and is tried again.
    BackOff,
    /// The server asked for a pause.
    ServerAsked,
    /// The circuit breaker is open.
    Breaker,
    /// The disk has no room for what the planner decided, or gives errors.
    Disk,
}
