//! `GET /v1/events` of the page: the events `status`, `review`, `waiting` and `sent`, each sent whole whenever it changes.
//!
//! Each event replaces the previous one of its kind. A page that reconnects has missed nothing, and a slow page skips
//! outdated events, so nothing is queued for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;

use super::view::{self, PageViewer};
use super::{PageContext, STALL_TIMEOUT};
use crate::clock::wall_ms;
use crate::ipc::error::ApiError;
use crate::ipc::http::{HttpResponse, read_query, stream_response};
use crate::ipc::state::ApiState;
use crate::model::Backlog;

/// The least time between events. Changes within it are sent as one.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);
/// The least time between two reads of the lists.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
const DAY_MS: u64 = 24 * 3600 * 1000;

pub(super) fn stream_page_events(
    context: &PageContext,
    state: &ApiState,
    viewer: PageViewer,
    query: Option<&str>,
) -> Result<HttpResponse, ApiError> {
    let EventsQuery { since } = read_query(query.unwrap_or_default())?;
    let since = since.unwrap_or_else(|| wall_ms().saturating_sub(DAY_MS));
    let slot = Arc::clone(&context.stream_slots).try_acquire_owned().map_err(|_| {
        let message = "too many pages are open on this device: close one, or raise web.max_connections";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_pages", message)
    })?;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let mut stream = PageStream { state: state.clone(), viewer, since, sender, last: HashMap::new() };
    actix_rt::spawn(async move {
        // When this ends, for whatever reason, so does the response.
        let _ended = stream.send_changes().await;
        drop(slot);
    });
    let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((Ok(event), receiver))
    });
    Ok(stream_response("text/event-stream", events))
}

/// The query of `GET /v1/events`.
#[derive(Deserialize)]
struct EventsQuery {
    /// When the day began for the viewer, in wall milliseconds: what was sent since then is sent today. Without it, a day
    /// ago.
    since: Option<u64>,
}

/// Replaces a list while the store cannot be read.
#[derive(Serialize)]
struct ListUnreadable {
    unreadable: bool,
}

/// The page was closed, or does not read.
struct PageGone;

/// The events of one open page.
struct PageStream {
    state: ApiState,
    viewer: PageViewer,
    since: u64,
    sender: Sender<Bytes>,
    /// The last event of each name.
    last: HashMap<&'static str, Bytes>,
}

impl PageStream {
    async fn send_changes(&mut self) -> Result<(), PageGone> {
        let mut sources = self.state.sources.clone();
        let (mut last_version, mut listed_at) = (None, None::<Duration>);
        loop {
            self.send_if_new("status", &view::page_status(&sources, self.viewer)).await?;
            let version = BacklogVersion::of(&sources.backlog.borrow());
            // Reading the lists costs more than the status.
            let now = sources.clock.now();
            let due_in = listed_at.map_or(Duration::ZERO, |at| (at + LIST_INTERVAL).saturating_sub(now));
            let are_lists_outdated = last_version != Some(version);
            if are_lists_outdated && due_in.is_zero() {
                // The status is still sent if they cannot be read. They are read again after the next change.
                last_version = self.send_lists(last_version, version).await?.then_some(version);
                listed_at = Some(now);
            }
            let list_due_in = Some(due_in).filter(|due_in| are_lists_outdated && !due_in.is_zero());
            let refresh_in = list_due_in.into_iter().chain(sources.next_refresh()).min();
            tokio::select! {
                has_changed = sources.wait_for_change() => if !has_changed { return Ok(()) },
                () = sleep_if_some(refresh_in) => {}
                () = self.sender.closed() => return Err(PageGone),
            }
            tokio::time::sleep(EVENT_INTERVAL).await;
        }
    }

    /// Returns whether all lists could be read.
    async fn send_lists(
        &mut self,
        last: Option<BacklogVersion>,
        now: BacklogVersion,
    ) -> Result<bool, PageGone> {
        let mut are_read = true;
        if last.is_none_or(|last| last.review != now.review) {
            let review = view::list_review(&self.state, self.viewer).await;
            are_read &= self.send_list("review", review).await?;
        }
        if last.is_none_or(|last| last.waiting != now.waiting) {
            let waiting = view::list_waiting(&self.state, self.viewer).await;
            are_read &= self.send_list("waiting", waiting).await?;
        }
        if last.is_none_or(|last| last.synced != now.synced) {
            let sent = view::list_sent(&self.state, self.viewer, self.since).await;
            are_read &= self.send_list("sent", sent).await?;
        }
        Ok(are_read)
    }

    /// Returns whether the list could be read.
    async fn send_list(
        &mut self,
        name: &'static str,
        list: Result<impl Serialize, ApiError>,
    ) -> Result<bool, PageGone> {
        match &list {
            Ok(list) => self.send_if_new(name, list).await?,
            Err(_) => self.send_if_new(name, &ListUnreadable { unreadable: true }).await?,
        }
        Ok(list.is_ok())
    }

    async fn send_if_new(&mut self, name: &'static str, data: &impl Serialize) -> Result<(), PageGone> {
        let data = serde_json::to_string(data).unwrap_or_default();
        let event = Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
        if self.last.get(name) == Some(&event) {
            return Ok(());
        }
        self.last.insert(name, event.clone());
        let sent = tokio::time::timeout(STALL_TIMEOUT, self.sender.send(event));
        sent.await.ok().and_then(Result::ok).ok_or(PageGone)
    }
}

/// Differs whenever a list may.
#[derive(Clone, Copy, PartialEq, Eq)]
struct BacklogVersion {
    /// A record is settled when it comes under review, and none returns there without being settled again.
    review: (u64, u64),
    waiting: [u64; 4],
    synced: u64,
}

impl BacklogVersion {
    fn of(backlog: &Backlog) -> Self {
        let Backlog { quarantined, settled_total, synced_total, pending, syncing, failed, .. } = *backlog;
        Self {
            review: (quarantined, settled_total - synced_total),
            waiting: [pending, syncing, failed, settled_total],
            synced: synced_total,
        }
    }
}

async fn sleep_if_some(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
