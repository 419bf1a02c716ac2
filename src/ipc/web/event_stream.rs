//! `GET /v1/events` of the page: the events `status` and `review`, each sent whole whenever it changes.
//!
//! Each event replaces the previous one of its kind. A page that reconnects has missed nothing, and a slow page skips
//! outdated events, so nothing is queued for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::view::{self, PageViewer};
use super::{PageContext, STALL_TIMEOUT};
use crate::ipc::error::ApiError;
use crate::ipc::http::{HttpResponse, stream_response};
use crate::ipc::state::ApiState;
use crate::model::Backlog;

/// The least time between events. Changes within it are sent as one.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn stream_page_events(context: &PageContext, state: &ApiState) -> Result<HttpResponse, ApiError> {
    let slot = Arc::clone(&context.stream_slots).try_acquire_owned().map_err(|_| {
        let message = "too many pages are open on this device: close one, or raise web.max_connections";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", message)
    })?;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let (state, viewer) = (state.clone(), context.viewer());
    actix_rt::spawn(async move {
        // When this ends, for whatever reason, so does the response.
        let _ended = send_changes(&state, viewer, &sender).await;
        drop(slot);
    });
    let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((Ok(event), receiver))
    });
    Ok(stream_response("text/event-stream", events))
}

/// Replaces the list of records under review while the store cannot be read.
#[derive(Serialize)]
struct ReviewUnreadable {
    unreadable: bool,
}

/// The page was closed, or does not read.
struct PageGone;

async fn send_changes(state: &ApiState, viewer: PageViewer, sender: &Sender<Bytes>) -> Result<(), PageGone> {
    let mut sources = state.sources.clone();
    let mut last_status = Bytes::new();
    let (mut last_review, mut last_version) = (Bytes::new(), None);
    loop {
        let status = encode_event("status", &view::page_status(&sources, viewer));
        if status != last_status {
            last_status = status.clone();
            send_event(sender, status).await?;
        }
        let version = review_version(&sources.backlog.borrow());
        if last_version != Some(version) {
            let review = match view::list_review(state, viewer).await {
                Ok(review) => {
                    last_version = Some(version);
                    encode_event("review", &review)
                }
                // The status is still sent. The list is read again after the next change.
                Err(_) => encode_event("review", &ReviewUnreadable { unreadable: true }),
            };
            if review != last_review {
                last_review = review.clone();
                send_event(sender, review).await?;
            }
        }
        tokio::select! {
            has_changed = sources.wait_for_change() => if !has_changed { return Ok(()) },
            () = sender.closed() => return Err(PageGone),
        }
        tokio::time::sleep(EVENT_INTERVAL).await;
    }
}

/// Differs whenever other records are under review: a record is settled when it comes under review, and none returns
/// there without being settled again.
fn review_version(backlog: &Backlog) -> (u64, u64) {
    (backlog.quarantined, backlog.settled_total - backlog.synced_total)
}

async fn send_event(sender: &Sender<Bytes>, event: Bytes) -> Result<(), PageGone> {
    tokio::time::timeout(STALL_TIMEOUT, sender.send(event)).await.ok().and_then(Result::ok).ok_or(PageGone)
}

fn encode_event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
