//! The label that the end of a batch has in the metrics.

use super::ProcessingOutcome;
use crate::ledger::{BatchSettlement, LedgerError};
use crate::metrics::BatchOutcomeLabel;

pub(super) fn label_outcome(outcome: &Result<ProcessingOutcome, LedgerError>) -> BatchOutcomeLabel {
    match outcome {
        Ok(ProcessingOutcome::Settled(BatchSettlement::New(_))) => BatchOutcomeLabel::Settled,
        Ok(ProcessingOutcome::Settled(BatchSettlement::Replayed(_))) => BatchOutcomeLabel::Replayed,
        Ok(ProcessingOutcome::Settled(BatchSettlement::IdReused)) => BatchOutcomeLabel::IdReused,
        Ok(ProcessingOutcome::ClaimedElsewhere) => BatchOutcomeLabel::ClaimedElsewhere,
        Ok(ProcessingOutcome::Refused(_)) => BatchOutcomeLabel::Refused,
        Ok(ProcessingOutcome::Abandoned) => BatchOutcomeLabel::Abandoned,
        Err(_) => BatchOutcomeLabel::Failed,
    }
}
