//! The data types that the whole daemon shares. No behaviour beyond what the types themselves mean.

mod backlog;
mod batch;
mod id;
mod link;
mod network;
mod phase;
mod record;

pub use backlog::{
    Backlog, Blocker, Damage, DiskState, OTHER_SUBMITTERS, Pause, SUBMITTERS_MAX, Storage, SubmitterCounts,
};
pub use batch::{
    Batch, BatchPhase, BatchRecord, DeniedSet, InFlightRule, OpenBatch, RecordStanding, Sequence, SizeRule,
    Stage,
};
pub use id::{BatchId, DeviceId, RecordId};
pub use link::{ConnectFailure, Deferral, InterfaceKind, Link, LinkState, TlsExplanation, Uplink};
pub use network::Network;
pub use phase::{Phase, WaitCause};
pub use record::{
    DEFAULT_PRIORITY, LastError, ManifestEntry, NewRecord, PRIORITY_MAX, QueuePosition, RecordState,
};

/// The length of the name of a device, which is a header of each request.
pub const DEVICE_NAME_LENGTH_MAX: usize = 64;
