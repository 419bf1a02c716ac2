//! Why a record is not sent yet.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OpenEnum;
use crate::clock::as_rfc3339_option;
use crate::model::RecordId;

/// What a record waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingFor {
    /// The reason, for programs.
    #[schema(value_type = WaitingReason)]
    pub reason: OpenEnum<WaitingReason>,
    /// When the wait ends or the next attempt is made; null if the time is not known.
    #[serde(with = "as_rfc3339_option")]
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub until: Option<u64>,
    /// The earlier record of its key that must be sent first.
    #[schema(required = true)]
    pub held_by: Option<RecordId>,
    /// A sentence for people. It contains neither keys nor messages of the server.
    pub text: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What a record waits for. Newer versions may have other reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingReason {
    /// The next batch.
    NextBatch,
    /// The response to its batch, which is being sent.
    InBatch,
    /// The outcome of its batch, which was sent without a clear response.
    Outcome,
    /// The next attempt after a failure.
    Backoff,
    /// An earlier record of its key.
    Key,
    /// The end of a wait that the server asked for.
    ServerWait,
    /// The end of the circuit breaker's pause.
    Breaker,
    /// A connection to the server.
    Offline,
    /// A network that is not metered.
    Metered,
    /// A charged battery.
    Battery,
    /// The end of a pause that an admin asked for.
    Paused,
    /// A credential that the server accepts.
    AuthRequired,
    /// A corrected configuration.
    Misconfigured,
    /// A disk that works and has free space.
    Disk,
    /// The decision of a person.
    Review,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_not_known_yet_is_read() {
        let text =
            r#"{"reason":"moon_phase","until":null,"held_by":null,"text":"Waiting for the full moon."}"#;
        let waiting: WaitingFor = serde_json::from_str(text).unwrap();
        assert_eq!(waiting.reason, OpenEnum::Unknown("moon_phase".into()));
        assert_eq!(waiting.text, "Waiting for the full moon.");
    }

    #[test]
    fn reasons_have_the_promised_names() {
        let name = |reason| serde_json::to_value::<WaitingReason>(reason).unwrap();
        assert_eq!(name(WaitingReason::NextBatch), "next_batch");
        assert_eq!(name(WaitingReason::Backoff), "backoff");
        assert_eq!(name(WaitingReason::AuthRequired), "auth_required");
    }
}
