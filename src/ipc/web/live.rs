//! The stream of a page that is open: `status` and `review`, each of them whole, whenever it is another.
//!
//! Because each event is all there is to know, a page that comes back needs nothing of what it missed, and one
//! that is slow skips what is outdated: nothing is gathered for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::view::{self, Audience};
use super::{STALL_LIMIT, Site};
use crate::ipc::error::ApiError;
use crate::ipc::http::{self, Response};
use crate::ipc::state::Shared;
use crate::model::Backlog;

/// Changes that come closer together are shown as one.
const SPACING: Duration = Duration::from_millis(200);

/// `GET /v1/events`
pub(super) fn events(site: &Site, shared: &Shared) -> Result<Response, ApiError> {
    let slot = Arc::clone(&site.streams).try_acquire_owned().map_err(|_| {
        let message = "too many pages are open on this device: close one, or raise web.max_connections";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", message)
    })?;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let (shared, audience) = (shared.clone(), site.audience());
    actix_rt::spawn(async move {
        // However it ends, so does the answer, and with it the connection of one that does not read.
        let _ended = tell(&shared, audience, &sender).await;
        drop(slot);
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok(chunk), receiver))
    });
    Ok(http::stream("text/event-stream", stream))
}

/// Stands in for the records under review.
#[derive(Serialize)]
struct Unreadable {
    unreadable: bool,
}

/// The reader, by itself, or because it does not read.
struct Gone;

async fn tell(shared: &Shared, audience: Audience, sender: &Sender<Bytes>) -> Result<(), Gone> {
    let mut board = shared.board.clone();
    let mut last_status = Bytes::new();
    let (mut last_review, mut last_set) = (Bytes::new(), None);
    loop {
        let status = event("status", &view::status(&board, audience));
        if status != last_status {
            last_status = status.clone();
            send(sender, status).await?;
        }
        let set = review_set(&board.backlog.borrow());
        if last_set != Some(set) {
            let review = match view::review(shared, audience).await {
                Ok(review) => {
                    last_set = Some(set);
                    event("review", &review)
                }
                // The store is ill: everything else is told all the same, and this when there is news of it.
                Err(_) => event("review", &Unreadable { unreadable: true }),
            };
            if review != last_review {
                last_review = review.clone();
                send(sender, review).await?;
            }
        }
        tokio::select! {
            changed = board.changed() => if !changed { return Ok(()) },
            () = sender.closed() => return Err(Gone),
        }
        tokio::time::sleep(SPACING).await;
    }
}

/// Is another one when other records are under review: each that comes there is settled, and none that
/// leaves comes back without that.
fn review_set(backlog: &Backlog) -> (u64, u64) {
    (backlog.quarantined, backlog.settled_total - backlog.synced_total)
}

async fn send(sender: &Sender<Bytes>, event: Bytes) -> Result<(), Gone> {
    tokio::time::timeout(STALL_LIMIT, sender.send(event)).await.ok().and_then(Result::ok).ok_or(Gone)
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
