//! Alerts, and how they are acknowledged.

use serde::{Deserialize, Serialize};
use strum::{Display, VariantArray};
use utoipa::ToSchema;

use super::OpenEnum;
use crate::clock::as_rfc3339;
use crate::model::Damage;

/// What an alert is about. Other versions may have other alerts.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    VariantArray,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AlertName {
    /// The store was damaged, and the damage is not acknowledged yet.
    StoreDamaged,
    /// The disk is full: new records are refused.
    DiskFull,
    /// The disk has errors: no records are accepted or sent.
    DiskFailing,
    /// Records need review.
    NeedsReview,
    /// The queue is nearly full.
    QueueFilling,
    /// The oldest record has waited for a long time.
    RecordsWait,
    /// The token is sent without TLS.
    TokenInClear,
    /// The configuration has a mistake, and the last good one is in use.
    ConfigurationRefused,
}

impl AlertName {
    /// All alerts of this version.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
}

/// A condition that people should know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// What it is about.
    #[schema(value_type = AlertName)]
    pub alert: OpenEnum<AlertName>,
    /// The text for people.
    pub message: String,
    /// When it began.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: u64,
}

/// The body of `POST /v1/alerts/acknowledge`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeAlert {
    /// `store_damaged`, the only one that is acknowledged: other alerts end when their cause ends.
    pub alert: String,
}

/// What was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// The acknowledged damage, the oldest first.
    pub acknowledged: Vec<Damage>,
}
