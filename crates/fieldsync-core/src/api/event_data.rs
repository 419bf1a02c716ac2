//! The data of events that no call answers with: what became of a record, the breaker's mode, and a gap.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BreakerMode;
use crate::model::{LastError, RecordId, RecordState};

/// The data of a `record` event: what became of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordChange {
    /// Which.
    pub id: RecordId,
    /// Its state, when that is news.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<RecordState>,
    /// What a person did about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub change: Option<RecordDecision>,
    /// Its type, when it was set aside.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub record_type: Option<String>,
    /// Why it was set aside. Its message is for its submitter and admins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<LastError>,
}

impl RecordChange {
    /// It is in another state.
    pub fn changed_to(id: RecordId, state: RecordState) -> Self {
        Self { id, state: Some(state), change: None, record_type: None, last_error: None }
    }

    /// Somebody decided about it.
    pub fn decided_as(id: RecordId, decision: RecordDecision) -> Self {
        Self { id, state: None, change: Some(decision), record_type: None, last_error: None }
    }
}

/// What a person did about a record under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RecordDecision {
    /// It is sent again, mended or not.
    #[serde(rename = "queued again")]
    QueuedAgain,
    /// It is gone for good.
    #[serde(rename = "discarded")]
    Discarded,
}

/// The data of a `breaker` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerChange {
    /// The mode that it is in now.
    #[schema(value_type = BreakerMode)]
    pub mode: String,
    /// Batch failures in a row.
    pub consecutive_failures: u32,
}

/// The data of a `gap` event: a reader missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// How many; null when nobody counted them.
    #[schema(required = true)]
    pub missed: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why a reader missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// It reads more slowly than things happen.
    SlowReader,
    /// It came back too late: events are kept for a while only.
    NotKept,
    /// The daemon was started anew since the event that it saw last.
    DaemonRestarted,
    /// What it says it saw last is no id of an event.
    UnknownId,
}
