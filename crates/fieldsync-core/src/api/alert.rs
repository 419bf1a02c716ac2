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
    /// The server fails: nothing was sent for a long time.
    BreakerOpen,
    /// Many batches end without a clear outcome.
    AmbiguousAnswers,
    /// The disk of the queue has little free space.
    DiskLow,
    /// The token or the client certificate expires soon, or has expired.
    CredentialExpires,
    /// The server does not accept the credential, or it cannot be used.
    CredentialRefused,
    /// The clock of this device differs from the server's.
    ClockOffset,
    /// The server has not responded for a long time.
    NoContact,
    /// The daemon restarts often.
    Restarts,
    /// The server, or something in its place, denies every request or a set of records.
    SendingDenied,
}

impl AlertName {
    /// All alerts of this version.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
}

/// How urgent an alert is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
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
pub enum AlertSeverity {
    /// A person should look at it: records are still accepted, and are sent or will be.
    #[default]
    Warning,
    /// A person must act now: records are refused, are not sent, or were lost.
    Critical,
}

impl AlertSeverity {
    /// All severities of this version.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
}

/// A condition that people should know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// What it is about.
    #[schema(value_type = AlertName)]
    pub alert: OpenEnum<AlertName>,
    /// How urgent it is.
    #[serde(default)]
    #[schema(value_type = AlertSeverity, required = true)]
    pub severity: OpenEnum<AlertSeverity>,
    /// What happened, and what it means for the records.
    pub message: String,
    /// What to do. Empty from a daemon before 0.3, whose message says it.
    #[serde(default)]
    #[schema(required = true)]
    pub remedy: String,
    /// When it began.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: u64,
}

impl Alert {
    /// The message and the remedy, on one line.
    pub fn line(&self) -> String {
        let Self { message, remedy, .. } = self;
        if remedy.is_empty() { message.clone() } else { format!("{message}. To do: {remedy}") }
    }
}

/// The data of an `alert` event: an alert has started or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertChange {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// True when it started, false when it ended.
    #[serde(default = "is_started")]
    #[schema(required = true)]
    pub active: bool,
}

/// A daemon before 0.3 sends only alerts that started.
fn is_started() -> bool {
    true
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
