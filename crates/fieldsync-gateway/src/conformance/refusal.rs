//! What points about hostile input have in common: it is refused, nothing of it is applied, and the server works on.

use super::finding::{Finding, PointResult, require};
use super::request::KitRequest;
use super::response::KitResponse;
use super::sample::SampleBatch;
use super::server::TestedServer;
use crate::protocol::wire::RecordStatus;

/// The request is refused as a whole, because of what it holds.
pub(super) async fn require_refused(
    server: &TestedServer,
    request: &KitRequest,
    what: &str,
) -> PointResult<KitResponse> {
    let response = server.send(request).await?;
    require(response.is_refusal(), format!("a refusal (HTTP 400 or another 4xx) of {what}"), || {
        response.describe()
    })?;
    Ok(response)
}

/// No record of the batch was applied: under another batch id, all of them are applied now.
pub(super) async fn require_not_applied(
    server: &TestedServer,
    batch: &SampleBatch,
    what: &str,
) -> PointResult {
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(batch, RecordStatus::Applied, &format!("{what} applied nothing"))
}

/// The server still applies batches.
pub(super) async fn require_alive(server: &TestedServer, after: &str) -> PointResult {
    let batch = server.sample_batch(1)?;
    match server.submit(&batch).await {
        Ok(results) => {
            results.require_all(&batch, RecordStatus::Applied, &format!("it is sent after {after}"))
        }
        Err(Finding::Failed { found, .. }) => {
            Err(Finding::failed(format!("a server that works after {after}"), found))
        }
        Err(skipped) => Err(skipped),
    }
}
