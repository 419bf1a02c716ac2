//! Before the points: whether the server can be judged at all, and how many records it takes in a batch.

use super::finding::{Finding, PointResult};
use super::request::KitRequest;
use super::response::KitResponse;
use super::server::TestedServer;
use super::settling::is_unclear;

/// Sends an outcome query, and batches until one is not too large.
pub(super) async fn prepare(server: &TestedServer) -> Result<(), String> {
    if let Err(Finding::Failed { found, .. }) = server.probe().await {
        return Err(found);
    }
    find_batch_size(server).await;
    Ok(())
}

async fn find_batch_size(server: &TestedServer) {
    loop {
        let batch = server.large_batch();
        let records = batch.records.len();
        let sent: PointResult<KitResponse> = server.send_first(&KitRequest::post(&batch)).await;
        // Without a response, the points name what is wrong.
        let Ok(response) = sent else { return };
        if response.status.as_u16() == 413 && records > 1 {
            server.note_refusal(records);
            continue;
        }
        if is_unclear(&response) {
            // So that the points do not find the server working. What it became is no matter of theirs.
            drop(server.submit(&batch).await);
        }
        return;
    }
}
