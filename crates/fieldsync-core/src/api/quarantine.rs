//! Calls that change records under review.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::RecordId;

/// The body of `POST /v1/quarantine/add`, `…/retry` and `…/discard`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<RecordId>>,
    /// All that are under review; `…/add` takes ids only.
    #[serde(default)]
    pub all: bool,
    /// Needed to discard all of them.
    #[serde(default)]
    pub confirm: bool,
}

/// How many records a call changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// That many.
    pub changed: u64,
    /// To `…/add`: records that could not be put under review, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRecord>,
}

/// A record that a call left as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedRecord {
    /// Which.
    pub id: RecordId,
    /// Why, for programs: `no_such_record`, `already_synced` or `outcome_pending`.
    pub code: String,
    /// Why, for people.
    pub message: String,
}
