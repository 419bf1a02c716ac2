//! Calls that change records under review.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::RecordId;

/// The body of `POST /v1/quarantine/add`, `…/retry` and `…/discard`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The ids of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<RecordId>>,
    /// All records under review. `…/add` accepts only ids.
    #[serde(default)]
    pub all: bool,
    /// Required to discard all of them.
    #[serde(default)]
    pub confirm: bool,
}

/// How many records a call changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// The number of changed records.
    pub changed: u64,
    /// In the response to `…/add`: records that could not be put under review, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRecord>,
}

/// A record that a call did not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedRecord {
    /// The id of the record.
    pub id: RecordId,
    /// The reason, for programs: `no_such_record`, `already_synced` or `outcome_pending`.
    pub code: String,
    /// The reason, for people.
    pub message: String,
}
