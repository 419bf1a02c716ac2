//! Requests that arrive at the same time, each over a connection of its own.

use futures_util::future::join_all;

use super::finding::PointResult;
use super::request::KitRequest;
use super::response::KitResponse;
use super::server::TestedServer;

/// How many requests are sent at once.
pub(super) const CONCURRENT_REQUESTS: usize = 8;

/// Opens all connections first, so that the requests arrive as close to each other as possible.
pub(super) async fn send_at_once(
    server: &TestedServer,
    requests: &[KitRequest],
) -> PointResult<Vec<PointResult<KitResponse>>> {
    let opened = join_all(requests.iter().map(|_| server.open())).await;
    let senders = opened.into_iter().collect::<PointResult<Vec<_>>>()?;
    let exchanges =
        senders.into_iter().zip(requests).map(|(sender, request)| server.exchange(sender, request));
    Ok(join_all(exchanges).await)
}
