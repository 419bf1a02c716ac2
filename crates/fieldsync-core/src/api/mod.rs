//! The local API as Rust types, shared by the daemon and the command line. Names and shapes are promises.

mod alert;
mod batch;
pub mod batch_reasons;
mod caller;
mod configuration;
mod counts;
mod event_data;
pub mod json_problem;
mod open_enum;
mod quarantine;
mod record;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
mod sequence_text;
mod status;
pub mod submission;
mod telemetry;
mod waiting;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::as_rfc3339_option;

pub use crate::model::Phase;
pub use alert::{AcknowledgeAlert, Acknowledged, Alert, AlertChange, AlertName, AlertSeverity};
pub use batch::{BatchDetail, BatchList, BatchOutcome, BatchReport};
pub use caller::{Caller, CallerQueue};
pub use configuration::{Configuration, ConfigurationMistake, ConfigurationRefusal, ConfigurationValue};
pub use counts::Counts;
pub use event_data::{BreakerChange, Gap, GapReason, RecordChange, RecordDecision};
pub use open_enum::OpenEnum;
pub use quarantine::{Changed, RefusedRecord, Selection};
pub use record::{
    Accepted, FoundRecord, FoundRecords, LOOKUP_IDS_MAX, RecordDetail, RecordLookup, RecordPage,
};
pub use status::{
    BatchInFlight, Batching, BreakerMode, BreakerStatus, ConnectivityStatus, QueueUse, Status, Sync,
    SyncReason,
};
pub use telemetry::{
    DayReport, FailureReport, HourReport, InFlightBucket, InterfaceCount, Outcomes, PerRecord, PeriodReport,
    SizeBucket, TelemetryReport, TypeReport,
};
pub use waiting::{WaitingFor, WaitingReason};

/// The body of `POST /v1/pause`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// After this many seconds, sending resumes by itself.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub for_s: Option<u64>,
}

/// The response to `POST /v1/pause` and `POST /v1/resume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseState {
    /// Whether an admin has paused sending.
    pub paused: bool,
    /// When sending resumes by itself, after a pause for a time.
    #[serde(with = "as_rfc3339_option", default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<u64>,
}
