//! What forwarding writes to the log. It quotes neither a record nor the receiver.

use super::response::PostOutcome;
use crate::model::RecordId;

pub(super) fn log_refused(record_id: RecordId, http_status: Option<u16>) {
    tracing::warn!(
        %record_id, http_status,
        "a forwarded record was refused: it needs review, and later records of its key wait"
    );
}

pub(super) fn log_rejected_together(records: usize, http_status: u16) {
    tracing::info!(records, http_status, "forwarded records were rejected together: smaller parts follow");
}

pub(super) fn log_failure(
    outcome: &PostOutcome,
    record_id: RecordId,
    records: usize,
    waiting: u64,
    wait_ms: u64,
) {
    match outcome {
        PostOutcome::EndpointUnavailable(status) => tracing::error!(
            %record_id, records, waiting, http_status = status, wait_ms,
            "records cannot be forwarded: check the URL and the token; the records wait"
        ),
        PostOutcome::Gone => tracing::error!(
            %record_id, records, waiting, http_status = 410,
            "forwarding stopped: the receiver wants no more requests. The records wait. Correct the URL, then restart the \
             gateway, or reload it if the receiver is back"
        ),
        PostOutcome::RetryLater { status, .. } => tracing::warn!(
            %record_id, records, waiting, http_status = status, wait_ms,
            "records were not accepted now: they wait"
        ),
        PostOutcome::Failed(error) => tracing::warn!(
            %record_id, records, waiting, error, wait_ms, "records could not be forwarded: they wait"
        ),
        PostOutcome::Accepted | PostOutcome::Results { .. } | PostOutcome::Rejected { .. } => {}
    }
}
