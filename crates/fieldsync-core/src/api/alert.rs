//! Alerts, and how they are acknowledged.

use serde::{Deserialize, Serialize};
use strum::Display;
use utoipa::ToSchema;

use super::OpenEnum;
use crate::clock::as_rfc3339;
use crate::model::Damage;

/// What an alert is about. Names of other alerts may come with other versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AlertName {
    /// The store was damaged, and the damage is not acknowledged yet.
    StoreDamaged,
    /// No room: new records are refused.
    DiskFull,
    /// The disk gives errors: nothing is taken and nothing is sent.
    DiskFailing,
    /// Records need review.
    NeedsReview,
    /// The queue is nearly full.
    QueueFilling,
    /// The oldest record waits for long.
    RecordsWait,
    /// The token is sent over a connection without TLS.
    TokenInClear,
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Its name.
    #[schema(value_type = AlertName)]
    pub alert: OpenEnum<AlertName>,
    /// For people.
    pub message: String,
    /// Since when it stands.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: u64,
}

/// The body of `POST /v1/alerts/acknowledge`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeAlert {
    /// `store_damaged`: the others go when their cause does.
    pub alert: String,
}

/// What was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// The damage, the oldest first.
    pub acknowledged: Vec<Damage>,
}
