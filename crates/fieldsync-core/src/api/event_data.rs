//! The data of events that have no call of their own: a change of a record, the breaker's mode, and a gap.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BreakerMode;
use crate::model::{LastError, RecordId, RecordState};
use crate::protocol::receipt::Receipt;

/// The data of a `record` event: what changed about a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordChange {
    /// The id of the record.
    pub id: RecordId,
    /// Its new state, if that changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<RecordState>,
    /// What a person decided about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub change: Option<RecordDecision>,
    /// The user who discarded it, if it was discarded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub discarded_by: Option<String>,
    /// Its type, if it was quarantined.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub record_type: Option<String>,
    /// Why it was quarantined. Message and field are only for its submitter and admins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<LastError>,
    /// What the server said it became, when it was synced. For its submitter and admins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub receipt: Option<Receipt>,
}

impl RecordChange {
    /// The record is in another state.
    pub fn changed_to(id: RecordId, state: RecordState) -> Self {
        Self {
            id,
            state: Some(state),
            change: None,
            discarded_by: None,
            record_type: None,
            last_error: None,
            receipt: None,
        }
    }

    /// A person queued the record again.
    pub fn queued_again(id: RecordId) -> Self {
        let change = Some(RecordDecision::QueuedAgain);
        Self { state: None, change, ..Self::changed_to(id, RecordState::Pending) }
    }

    /// A user discarded the record.
    pub fn discarded(id: RecordId, user: &str) -> Self {
        Self {
            change: Some(RecordDecision::Discarded),
            discarded_by: Some(user.to_owned()),
            ..Self::changed_to(id, RecordState::Discarded)
        }
    }
}

/// What a person decided about a record under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RecordDecision {
    /// It is sent again, edited or unchanged.
    #[serde(rename = "queued again")]
    QueuedAgain,
    /// Its payload was deleted permanently, and it is not sent.
    #[serde(rename = "discarded")]
    Discarded,
}

/// The data of a `breaker` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerChange {
    /// The new mode.
    #[schema(value_type = BreakerMode)]
    pub mode: String,
    /// Consecutive failures of batches.
    pub consecutive_failures: u32,
}

/// The data of a `gap` event: a reader missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The number of missed events; null if it is unknown.
    #[schema(required = true)]
    pub missed: Option<u64>,
    /// Why they were missed.
    pub reason: GapReason,
}

/// Why a reader missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// It reads more slowly than events occur.
    SlowReader,
    /// It reconnected too late: events are kept only for a while.
    NotKept,
    /// The daemon restarted after the last event that the reader received.
    DaemonRestarted,
    /// The last event id that the reader sent is not valid.
    UnknownId,
}
