//! What the response to an outcome query means: the table of the protocol (§3) as one pure function.

use std::time::Duration;

use super::breaker::Effect;
use crate::model::BatchId;
use crate::protocol::exchange::{Delivery, RequestResult, ResponseBody};
use crate::protocol::wire::{RecordResult, UNKNOWN_BATCH};

/// What the response to an outcome query means.
#[derive(Clone, Debug, PartialEq)]
pub enum OutcomeReply {
    /// The server processed the batch, with these results.
    Completed(Vec<RecordResult>),
    /// The server is still processing it: ask again.
    Processing {
        /// The wait that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The server never received the whole batch.
    UnknownBatch,
    /// This server has no outcome query.
    Unsupported,
    /// The server, or the gateway in front of it, failed on the query: it shows nothing about the batch.
    Failed,
    /// The server asks to come back later, most likely with batches, too.
    Throttled,
    /// The query did not reach the server, or was denied: it shows nothing about the batch or the server.
    Unreachable,
}

/// The response to an outcome query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueriedOutcome {
    /// What it means for the batch.
    pub reply: OutcomeReply,
    /// Whether it shows that the server holds keys.
    pub shows_held_keys: bool,
}

impl QueriedOutcome {
    /// `holds_keys`: whether the response says so.
    pub fn new(reply: OutcomeReply, holds_keys: bool) -> Self {
        Self { shows_held_keys: holds_keys && reply.is_of_server(), reply }
    }

    /// No response.
    pub fn unreachable() -> Self {
        Self::new(OutcomeReply::Unreachable, false)
    }
}

impl OutcomeReply {
    /// Whether the server itself responded, and not something in front of it.
    fn is_of_server(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Processing { .. } | Self::UnknownBatch)
    }

    /// The name in the journal.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Processing { .. } => "processing",
            Self::UnknownBatch => "unknown",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Throttled => "throttled",
            Self::Unreachable => "hindered",
        }
    }

    /// What it means for the breaker.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Completed(_) | Self::Processing { .. } | Self::UnknownBatch | Self::Unsupported => {
                Effect::Success
            }
            Self::Failed => Effect::Failure,
            Self::Throttled | Self::Unreachable => Effect::Neutral,
        }
    }
}

/// What the response to the outcome query for batch `id` means.
pub fn classify_outcome_reply(id: BatchId, result: &RequestResult) -> OutcomeReply {
    let response = match result {
        RequestResult::Response(response) => response,
        RequestResult::Failure(failure) if failure.delivery == Delivery::TimedOut => {
            return OutcomeReply::Failed;
        }
        RequestResult::Failure(_) => return OutcomeReply::Unreachable,
    };
    match (response.status, &response.body) {
        (200 | 207, ResponseBody::Batch(batch)) if batch.batch_id == id => {
            OutcomeReply::Completed(batch.results.clone())
        }
        (202, ResponseBody::Processing(batch)) if *batch == id => {
            OutcomeReply::Processing { retry_after: response.retry_after }
        }
        (404, ResponseBody::Error(detail)) if detail.code == UNKNOWN_BATCH => OutcomeReply::UnknownBatch,
        // These come from the network or a temporary refusal, and do not show what the server has.
        (200..=399 | 401 | 403 | 511, _) => OutcomeReply::Unreachable,
        (429 | 503, _) => OutcomeReply::Throttled,
        (501, _) => OutcomeReply::Unsupported,
        (408 | 500..=599, _) => OutcomeReply::Failed,
        _ => OutcomeReply::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::verdict::tests::{answer, batch, error, failure, undecodable};

    #[test]
    fn only_the_server_itself_shows_that_it_holds_keys() {
        for (reply, expected) in [
            (OutcomeReply::Completed(Vec::new()), true),
            (OutcomeReply::Processing { retry_after: None }, true),
            (OutcomeReply::UnknownBatch, true),
            (OutcomeReply::Unsupported, false),
            (OutcomeReply::Failed, false),
            (OutcomeReply::Throttled, false),
            (OutcomeReply::Unreachable, false),
        ] {
            assert_eq!(QueriedOutcome::new(reply.clone(), true).shows_held_keys, expected, "{reply:?}");
            assert!(!QueriedOutcome::new(reply, false).shows_held_keys);
        }
    }

    #[test]
    fn every_row_of_the_table_of_outcome_queries() {
        let (id, other) = (BatchId::new(), BatchId::new());
        let after = Some(Duration::from_secs(7));
        for (seen, expected) in [
            (answer(200, batch(id)), OutcomeReply::Completed(Vec::new())),
            (answer(200, batch(other)), OutcomeReply::Unreachable),
            (answer(202, ResponseBody::Processing(id)), OutcomeReply::Processing { retry_after: after }),
            (answer(202, ResponseBody::Processing(other)), OutcomeReply::Unreachable),
            (answer(404, error(UNKNOWN_BATCH)), OutcomeReply::UnknownBatch),
            (answer(404, ResponseBody::NotJson), OutcomeReply::Unsupported),
            (answer(405, ResponseBody::Empty), OutcomeReply::Unsupported),
            (answer(501, ResponseBody::Empty), OutcomeReply::Unsupported),
            (answer(200, ResponseBody::NotJson), OutcomeReply::Unreachable),
            (answer(200, undecodable()), OutcomeReply::Unreachable),
            (answer(302, ResponseBody::Empty), OutcomeReply::Unreachable),
            (answer(504, ResponseBody::NotJson), OutcomeReply::Failed),
            (answer(500, error("OOPS")), OutcomeReply::Failed),
            (answer(408, ResponseBody::Empty), OutcomeReply::Failed),
            (answer(429, ResponseBody::Empty), OutcomeReply::Throttled),
            (answer(503, ResponseBody::NotJson), OutcomeReply::Throttled),
            (failure(Delivery::NotSent), OutcomeReply::Unreachable),
            (failure(Delivery::TimedOut), OutcomeReply::Failed),
        ] {
            assert_eq!(classify_outcome_reply(id, &seen), expected, "{seen:?}");
        }
    }
}
