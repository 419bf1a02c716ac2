//! Before the points: whether the server can be judged at all, and how many records it takes in a batch.

use super::finding::Finding;
use super::request::KitRequest;
use super::response::KitResponse;
use super::server::TestedServer;
use super::settling::is_unclear;

/// Why no point can be judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum PreparationError {
    #[error("no server responds: {0}")]
    Unreachable(String),
    #[error("the server requires a token (--token-file): {0}")]
    NoToken(String),
    #[error("the server refuses the token of --token-file, which must be one for any device: {0}")]
    TokenRefused(String),
    #[error("the server takes no batches at this path (--path): {0}")]
    WrongPath(String),
}

/// Sends an outcome query, and batches until one is not too large.
pub(super) async fn prepare(server: &TestedServer) -> Result<(), PreparationError> {
    if let Err(Finding::Failed { found, .. }) = server.probe().await {
        return Err(PreparationError::Unreachable(found));
    }
    loop {
        let batch = server.large_batch();
        let records = batch.records.len();
        // Without a response, the points name what is wrong.
        let Ok(response) = server.send_first(&KitRequest::post(&batch)).await else { return Ok(()) };
        check_sender(server, &response)?;
        if response.status.as_u16() != 413 || records == 1 {
            if is_unclear(&response) {
                // So that the points do not find the server working. What it became is no matter of theirs.
                drop(server.submit(&batch).await);
            }
            return Ok(());
        }
        server.note_refusal(records);
    }
}

/// Whether the response says that the command line names a wrong token or path. A server without outcome queries
/// responds to those with 404, too, so that only the response to a batch tells.
fn check_sender(server: &TestedServer, response: &KitResponse) -> Result<(), PreparationError> {
    match response.status.as_u16() {
        401 | 403 if server.has_token() => Err(PreparationError::TokenRefused(response.describe())),
        401 | 403 => Err(PreparationError::NoToken(response.describe())),
        404 | 405 | 410 | 501 | 300..=399 => Err(PreparationError::WrongPath(response.describe())),
        _ => Ok(()),
    }
}
